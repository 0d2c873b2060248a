#include <time.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <functional>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "base/status.h"
#include "text/grammar.h"
#include "worker/model/model_files.h"

// What grammars cost with a real vocabulary, on one thread: making the environment, compiling, and
// each step of outputs: of texts that a model would write, and of any allowed tokens ("any").
namespace tandem {
namespace {

using Kind = GrammarSource::Kind;

struct Case {
  const char* name;
  GrammarSource source;
  std::string sentence;
};

constexpr char kOrder[] = R"({"type": "object", "properties": {
  "id": {"type": "string", "pattern": "^ORD-[0-9]{6}$"},
  "customer": {"$ref": "#/$defs/person"},
  "lines": {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/line"}},
  "notes": {"type": "string", "maxLength": 400},
  "parent": {"anyOf": [{"type": "null"}, {"$ref": "#"}]}},
  "required": ["id", "customer", "lines"], "additionalProperties": false,
  "$defs": {
    "person": {"type": "object", "properties": {"name": {"type": "string"},
      "email": {"type": "string", "format": "email"}, "born": {"type": "string", "format": "date"}},
      "required": ["name"], "additionalProperties": false},
    "line": {"type": "object", "properties": {"sku": {"type": "string", "minLength": 3},
      "quantity": {"type": "integer", "minimum": 1, "maximum": 999},
      "price": {"type": "number", "minimum": 0}, "colour": {"enum": ["red", "green", "blue"]}},
      "required": ["sku", "quantity"], "additionalProperties": false}}})";
constexpr char kOrderText[] = R"({"id": "ORD-004211", "customer": {"name": "Ada Lovelace",
  "email": "ada@example.com", "born": "1815-12-10"}, "lines": [{"sku": "engine-part-7",
  "quantity": 12, "price": 19.95, "colour": "blue"}, {"sku": "punched cards, a box of 500",
  "quantity": 2}], "notes": "Please deliver to the back door. The dog does not bite, but the engine
 may. Ring twice, and ask for the key under the third flower pot from the left."})";

std::vector<Case> Cases() {
  std::string order_text = kOrderText;
  order_text.erase(std::remove(order_text.begin(), order_text.end(), '\n'), order_text.end());
  return {
      {"json_schema, an order", {Kind::kJsonSchema, kOrder, {}}, order_text},
      {"json_object", {Kind::kJsonSchema, R"({"type": "object"})", {}}, order_text},
      {"regex, a date line",
       {Kind::kRegex, R"(\d{4}-\d\d-\d\d: [A-Za-z ,.]{10,200}\.)", {}},
       "2026-01-31: It rained, and nobody went out to look for the cat until the evening."},
      {"ebnf, arithmetic",
       {Kind::kLark,
        "start: sum\nsum: product ((\"+\" | \"-\") product)*\nproduct: atom ((\"*\" | \"/\") "
        "atom)*\natom: NUMBER | \"(\" sum \")\"\nNUMBER: /[0-9]+(\\.[0-9]+)?/\n%ignore / +/",
        {}},
       "(12 + 3.75) * 4 - 18 / (2 + 7 * (5 - 1)) + 1024"},
      {"choice of four",
       {Kind::kChoice, "", {"positive", "negative", "neutral", "mixed"}},
       "negative"},
  };
}

double CpuMicros() {
  timespec used{};
  (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
  return absl::ToDoubleMicroseconds(absl::DurationFromTimespec(used));
}

double MicrosOf(const std::function<void()>& work) {
  const double start = CpuMicros();
  work();
  return CpuMicros() - start;
}

void Print(const char* what, std::vector<double> micros) {
  if (micros.empty()) return;
  std::sort(micros.begin(), micros.end());
  double sum = 0;
  for (const double one : micros) sum += one;
  const auto at = [&](double share) { return micros[static_cast<size_t>(share * micros.size())]; };
  std::printf("  %-10s %8.1f median %8.1f mean %8.1f p99 %9.1f max   (%zu)\n", what, at(0.5),
              sum / micros.size(), at(0.99), micros.back(), micros.size());
}

std::vector<int32_t> IdsOf(const std::vector<uint32_t>& mask) {
  std::vector<int32_t> ids;
  for (size_t id = 0; id < mask.size() * 32; ++id) {
    if (mask[id / 32] >> (id % 32) & 1) ids.push_back(static_cast<int32_t>(id));
  }
  return ids;
}

struct Steps {
  std::vector<double> mask, consume;
};

// Follows `given`, or draws up to 200 tokens where it is empty.
absl::Status Walk(const std::shared_ptr<const Grammar>& grammar, const std::vector<int32_t>& given,
                  std::mt19937* random, Steps* steps) {
  ASSIGN_OR_RETURN(const std::unique_ptr<GrammarMatcher> matcher, GrammarMatcher::Create(grammar));
  std::vector<uint32_t> mask(matcher->mask_words());
  for (size_t i = 0; i < (given.empty() ? 200 : given.size()); ++i) {
    absl::Status status;
    steps->mask.push_back(
        MicrosOf([&] { status = matcher->ComputeMask(absl::MakeSpan(mask)).status(); }));
    RETURN_IF_ERROR(status);
    const std::vector<int32_t> allowed = IdsOf(mask);
    if (allowed.empty()) break;
    const int32_t next = given.empty() ? allowed[(*random)() % allowed.size()] : given[i];
    absl::StatusOr<bool> finished;
    steps->consume.push_back(MicrosOf([&] { finished = matcher->Consume({next}); }));
    RETURN_IF_ERROR(finished.status());
    if (*finished) break;
  }
  return absl::OkStatus();
}

absl::Status RunCase(const Case& one, const Tokenizer& tokenizer,
                     const GrammarEnvironment& environment) {
  absl::StatusOr<std::shared_ptr<const Grammar>> grammar = absl::UnknownError("not compiled");
  std::vector<double> compile;
  for (int round = 0; round < 5; ++round) {
    // The compiler has a thread of its own: this is the time that passes, not this thread's.
    const absl::Time start = absl::Now();
    grammar = environment.Compile(one.source);
    compile.push_back(absl::ToDoubleMicroseconds(absl::Now() - start));
  }
  RETURN_IF_ERROR(grammar.status());
  std::printf("%s\n", one.name);
  Print("compile", compile);
  ASSIGN_OR_RETURN(const std::vector<int32_t> ids, tokenizer.Encode(one.sentence, {}));
  std::mt19937 random(1);
  Steps following, drawing;
  for (int round = 0; round < 10; ++round) {
    RETURN_IF_ERROR(Walk(*grammar, ids, nullptr, &following));
    RETURN_IF_ERROR(Walk(*grammar, {}, &random, &drawing));
  }
  Print("mask", following.mask);
  Print("consume", following.consume);
  Print("mask, any", drawing.mask);
  return absl::OkStatus();
}

absl::StatusOr<std::string> TokenizerOf(const std::string& path) {
  if (absl::EndsWith(path, ".json")) {
    std::ifstream file(path);
    std::stringstream text;
    text << file.rdbuf();
    return text.str();
  }
  ASSIGN_OR_RETURN(const std::unique_ptr<ModelFiles> files, ModelFiles::Open(path));
  const Asset* tokenizer = files->assets().Find("tokenizer.json");
  if (tokenizer == nullptr) return absl::NotFoundError("the model has no tokenizer");
  return tokenizer->data;
}

absl::Status Main(const std::string& path) {
  ASSIGN_OR_RETURN(const std::string json, TokenizerOf(path));
  absl::StatusOr<std::shared_ptr<const Tokenizer>> tokenizer = absl::UnknownError("not loaded");
  const double load = MicrosOf([&] { tokenizer = Tokenizer::FromJson(json); });
  RETURN_IF_ERROR(tokenizer.status());
  absl::StatusOr<std::shared_ptr<const GrammarEnvironment>> environment =
      absl::UnknownError("not made");
  const double made = MicrosOf(
      [&] { environment = GrammarEnvironment::Create(**tokenizer, (*tokenizer)->vocab_size()); });
  RETURN_IF_ERROR(environment.status());
  std::printf("microseconds; %d ids; tokenizer %.0f ms, environment %.0f ms\n",
              (*tokenizer)->vocab_size(), load / 1000, made / 1000);
  for (const Case& one : Cases()) {
    RETURN_IF_ERROR(Annotate(RunCase(one, **tokenizer, **environment), one.name));
  }
  return absl::OkStatus();
}

}  // namespace
}  // namespace tandem

int main(int argc, char** argv) {
  const absl::Status status =
      argc == 2 ? tandem::Main(argv[1]) : absl::InvalidArgumentError("want one path");
  if (status.ok()) return 0;
  std::fprintf(stderr, "%s\nusage: tandem-grammar-bench MODEL|tokenizer.json\n",
               std::string(status.message()).c_str());
  return 1;
}
