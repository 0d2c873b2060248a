#include "worker/inspect_command.h"

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/nearest.h"
#include "base/status.h"
#include "text/tokenizer.h"
#include "worker/model/compare_weights.h"
#include "worker/model/inspect.h"

namespace tandem {
namespace {

constexpr size_t kTokensMax = 1 << 20;

struct InspectArgs {
  std::string path;
  bool json = false;
  bool quantized = false;  // --quant
  std::string text;        // a file's path; empty: SampleText()
  CompareOptions compare;
};

absl::Status SetValue(const std::string& flag, absl::string_view value, InspectArgs* args) {
  if (flag == "--text") {
    args->text = std::string(value);
    return absl::OkStatus();
  }
  if (flag == "--tokens") {
    if (absl::SimpleAtoi(value, &args->compare.tokens_max) && args->compare.tokens_max >= 2 &&
        args->compare.tokens_max <= kTokensMax) {
      return absl::OkStatus();
    }
    return absl::InvalidArgumentError(absl::StrCat("--tokens: want 2 to ", kTokensMax));
  }
  if (flag == "--activations") {
    if (value != "int8" && value != "float32") {
      return absl::InvalidArgumentError("--activations: want float32 or int8");
    }
    args->compare.activations = value == "int8" ? Activations::kInt8 : Activations::kFloat32;
    return absl::OkStatus();
  }
  args->quantized = true;
  for (const WeightScheme scheme : {WeightScheme::kInt8, WeightScheme::kInt4}) {
    args->compare.weights = scheme;
    if (value == NameOf(scheme)) return absl::OkStatus();
  }
  args->compare.weights = WeightScheme::kStored;  // to see what int8 activations do alone
  if (value == "stored") return absl::OkStatus();
  return absl::InvalidArgumentError("--quant: want int8, int4 or stored");
}

absl::StatusOr<InspectArgs> ParseInspectArgs(absl::Span<const char* const> args) {
  const std::vector<std::string> flags = {"--json", "--quant", "--text", "--tokens",
                                          "--activations"};
  InspectArgs parsed;
  bool compares = false;
  for (size_t i = 0; i < args.size(); ++i) {
    const std::string arg = args[i];
    if (!absl::StartsWith(arg, "--")) {
      if (!parsed.path.empty()) return absl::InvalidArgumentError("give one PATH");
      parsed.path = arg;
    } else if (arg == "--json") {
      parsed.json = true;
    } else if (std::find(flags.begin(), flags.end(), arg) == flags.end()) {
      return absl::InvalidArgumentError(
          absl::StrCat("unknown flag ", arg, "; ", Suggest(arg, flags)));
    } else if (++i == args.size()) {
      return absl::InvalidArgumentError(absl::StrCat(arg, " needs a value after it"));
    } else {
      RETURN_IF_ERROR(SetValue(arg, args[i], &parsed));
      compares = compares || arg != "--quant";
    }
  }
  if (parsed.path.empty()) return absl::InvalidArgumentError("want --inspect PATH");
  if (compares && !parsed.quantized) {
    return absl::InvalidArgumentError("--text, --tokens and --activations are for --quant");
  }
  return parsed;
}

// At most a byte more than a tokenizer takes.
absl::StatusOr<std::string> ReadText(const std::string& path) {
  if (path.empty()) return std::string(SampleText());
  std::ifstream file(path, std::ios::binary);
  std::string text(Tokenizer::kMaxTextBytes + 1, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (file.bad() || (!file && !file.eof())) {
    return absl::NotFoundError(absl::StrCat("--text: can't read ", path));
  }
  text.resize(static_cast<size_t>(file.gcount()));
  return text;
}

absl::StatusOr<std::string> Answer(const InspectArgs& args) {
  ASSIGN_OR_RETURN(const auto files, ModelFiles::Open(args.path));
  InspectOptions options;
  options.memory_bytes =
      static_cast<uint64_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  const Inspection inspection = Inspect(*files, options);
  if (!args.quantized) {
    return args.json ? InspectionJson(inspection) + "\n" : InspectionText(inspection);
  }
  ASSIGN_OR_RETURN(const std::string text, ReadText(args.text));
  ASSIGN_OR_RETURN(const WeightsComparison comparison, CompareWeights(*files, text, args.compare));
  if (!args.json) return absl::StrCat(InspectionText(inspection), "\n", ComparisonText(comparison));
  std::string json = InspectionJson(inspection);
  json.pop_back();
  return absl::StrCat(json, ",\"quantization\":", ComparisonJson(comparison), "}\n");
}

}  // namespace

int RunInspect(absl::Span<const char* const> args) {
  const absl::StatusOr<InspectArgs> parsed = ParseInspectArgs(args);
  const absl::StatusOr<std::string> answer =
      parsed.ok() ? Answer(*parsed) : absl::StatusOr<std::string>(parsed.status());
  if (answer.ok()) {
    std::fputs(answer->c_str(), stdout);
    return EXIT_SUCCESS;
  }
  std::fprintf(stderr, "tandem-worker: %s\n", std::string(answer.status().message()).c_str());
  return EXIT_FAILURE;
}

}  // namespace tandem
