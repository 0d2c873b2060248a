#include "client/bench/trace.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "base/status.h"
#include "client/bench/arrivals.h"
#include "client/bench/random.h"

namespace tandem::bench {
namespace {

constexpr size_t kLineBytesMax = 1 << 20;
constexpr double kTimeMsMax = 366.0 * 24 * 3600 * 1000;  // a year
constexpr std::array<absl::string_view, 3> kAzureColumns = {"TIMESTAMP", "ContextTokens",
                                                            "GeneratedTokens"};

absl::StatusOr<uint32_t> Tokens(const char* field, double tokens) {
  if (tokens >= 1 && tokens <= kTokensMax && tokens == std::floor(tokens)) {
    return static_cast<uint32_t>(tokens);
  }
  return absl::InvalidArgumentError(
      absl::StrCat(field, ": want a whole number of tokens from 1 to ", kTokensMax));
}

absl::StatusOr<double> Number(const nlohmann::json& object, const char* field) {
  const auto found = object.find(field);
  if (found == object.end()) return absl::InvalidArgumentError(absl::StrCat(field, " is missing"));
  if (!found->is_number()) {
    return absl::InvalidArgumentError(absl::StrCat(field, " is not a number"));
  }
  return found->get<double>();
}

absl::StatusOr<std::vector<uint64_t>> Blocks(const nlohmann::json& object, uint32_t input_tokens) {
  std::vector<uint64_t> blocks;
  const auto found = object.find("hash_ids");
  if (found == object.end()) return blocks;
  if (!found->is_array()) return absl::InvalidArgumentError("hash_ids is not a list");
  for (const auto& id : *found) {
    if (!id.is_number_unsigned()) {
      return absl::InvalidArgumentError("hash_ids: want whole numbers from 0");
    }
    blocks.push_back(id.get<uint64_t>());
  }
  if (const uint32_t most = (input_tokens + kBlockTokens - 1) / kBlockTokens;
      blocks.size() > most) {
    return absl::InvalidArgumentError(absl::StrCat("hash_ids has ", blocks.size(), " blocks, but ",
                                                   input_tokens, " tokens of input are ", most));
  }
  return blocks;
}

absl::StatusOr<PlannedRequest> ParseMooncake(absl::string_view line) {
  const auto object = nlohmann::json::parse(line.begin(), line.end(), nullptr,
                                            /*allow_exceptions=*/false);
  if (!object.is_object()) return absl::InvalidArgumentError("this is not one JSON object");
  ASSIGN_OR_RETURN(const double at_ms, Number(object, "timestamp"));
  if (!(at_ms >= 0 && at_ms <= kTimeMsMax)) {
    return absl::InvalidArgumentError("timestamp: want milliseconds from 0 to a year");
  }
  ASSIGN_OR_RETURN(const double input, Number(object, "input_length"));
  ASSIGN_OR_RETURN(const double output, Number(object, "output_length"));
  PlannedRequest request;
  request.at = absl::Milliseconds(at_ms);
  ASSIGN_OR_RETURN(request.input_tokens, Tokens("input_length", input));
  ASSIGN_OR_RETURN(request.output_tokens, Tokens("output_length", output));
  ASSIGN_OR_RETURN(request.blocks, Blocks(object, request.input_tokens));
  return request;
}

// Reads the lines of a CSV file below its heading. Until sorted, `at` is the time since 1970.
class AzureRows {
 public:
  static absl::StatusOr<AzureRows> FromHeading(absl::string_view heading) {
    const std::vector<absl::string_view> names = absl::StrSplit(heading, ',');
    AzureRows rows;
    rows.width_ = names.size();
    for (size_t i = 0; i < kAzureColumns.size(); ++i) {
      const auto found = std::find(names.begin(), names.end(), kAzureColumns[i]);
      if (found == names.end()) {
        return absl::InvalidArgumentError(absl::StrCat(
            "this is neither a Mooncake trace (a JSON object a line) nor an Azure trace (CSV): its "
            "first line has no ",
            kAzureColumns[i]));
      }
      rows.columns_[i] = static_cast<size_t>(found - names.begin());
    }
    return rows;
  }

  absl::StatusOr<PlannedRequest> Parse(absl::string_view line) const {
    const std::vector<absl::string_view> cells = absl::StrSplit(line, ',');
    if (cells.size() != width_) {
      return absl::InvalidArgumentError(
          absl::StrCat("has ", cells.size(), " columns, the first line has ", width_));
    }
    PlannedRequest request;
    absl::Time at;
    const absl::string_view time = cells[columns_[0]];
    const bool parsed = absl::ParseTime("%Y-%m-%d %H:%M:%E*S", time, &at, nullptr) ||
                        absl::ParseTime("%Y-%m-%d %H:%M:%E*S%Ez", time, &at, nullptr);
    if (!parsed || at == absl::InfiniteFuture() || at == absl::InfinitePast()) {
      return absl::InvalidArgumentError("TIMESTAMP: want one as 2023-11-16 18:15:46.6805900");
    }
    request.at = at - absl::UnixEpoch();
    double input = 0;
    double output = 0;  // stays so, and is refused, where it is no number
    if (!absl::SimpleAtod(cells[columns_[1]], &input)) input = 0;
    if (!absl::SimpleAtod(cells[columns_[2]], &output)) output = 0;
    ASSIGN_OR_RETURN(request.input_tokens, Tokens("ContextTokens", input));
    ASSIGN_OR_RETURN(request.output_tokens, Tokens("GeneratedTokens", output));
    return request;
  }

 private:
  size_t width_ = 0;
  std::array<size_t, 3> columns_ = {};
};

// Reads on to the end of the line or to kLineBytesMax, whatever comes first.
absl::StatusOr<std::string> ReadLine(std::istream& in) {
  std::string line;
  for (int c = in.get(); c != std::istream::traits_type::eof() && c != '\n'; c = in.get()) {
    if (line.size() == kLineBytesMax) {
      return absl::InvalidArgumentError(
          absl::StrCat("the line is longer than ", kLineBytesMax, " bytes"));
    }
    line.push_back(static_cast<char>(c));
  }
  if (!line.empty() && line.back() == '\r') line.pop_back();
  return line;
}

absl::StatusOr<Trace> ParseLines(std::istream& in, size_t* number) {
  Trace trace;
  absl::optional<AzureRows> rows;
  while (in.peek() != std::istream::traits_type::eof()) {
    ++*number;
    ASSIGN_OR_RETURN(const std::string line, ReadLine(in));
    if (line.empty()) continue;
    if (trace.plan.empty() && !rows && line[0] != '{') {
      ASSIGN_OR_RETURN(rows, AzureRows::FromHeading(line));
      trace.format = TraceFormat::kAzure;
      continue;
    }
    ASSIGN_OR_RETURN(PlannedRequest request, rows ? rows->Parse(line) : ParseMooncake(line));
    if (trace.plan.size() == kRequestsMax) {
      return absl::InvalidArgumentError(absl::StrCat("more than ", kRequestsMax, " requests"));
    }
    trace.plan.push_back(std::move(request));
  }
  return trace;
}

// First requests of each moment, and the plan's end.
std::vector<size_t> Moments(const Plan& plan) {
  std::vector<size_t> moments;
  for (size_t i = 0; i < plan.size(); ++i) {
    if (i == 0 || plan[i].at != plan[i - 1].at) moments.push_back(i);
  }
  moments.push_back(plan.size());
  return moments;
}

void SpreadBatches(Plan* plan, uint64_t seed) {
  const std::vector<size_t> moments = Moments(*plan);
  const size_t batches = moments.size() - 1;
  if (plan->size() < 2 * batches) return;
  Random random(seed, Stream::kArrivals);
  absl::Duration width;  // the last batch takes as long as the one before it
  for (size_t b = 0; b < batches; ++b) {
    const absl::Duration at = (*plan)[moments[b]].at;
    if (b + 1 < batches) width = (*plan)[moments[b + 1]].at - at;
    std::vector<double> draws(moments[b + 1] - moments[b]);
    for (double& draw : draws) draw = random.Unit();
    std::sort(draws.begin(), draws.end());
    for (size_t i = 0; i < draws.size(); ++i) (*plan)[moments[b] + i].at = at + draws[i] * width;
  }
}

}  // namespace

absl::StatusOr<Trace> ParseTrace(std::istream& in, const std::string& name) {
  size_t number = 0;
  absl::StatusOr<Trace> trace = ParseLines(in, &number);
  if (!trace.ok()) return Annotate(trace.status(), absl::StrCat(name, ":", number));
  Plan& plan = trace->plan;
  if (plan.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(name, ": there is no request in it"));
  }
  std::stable_sort(plan.begin(), plan.end(),
                   [](const PlannedRequest& a, const PlannedRequest& b) { return a.at < b.at; });
  const absl::Duration start = plan.front().at;
  for (PlannedRequest& request : plan) request.at -= start;
  return trace;
}

absl::StatusOr<Trace> ReadTrace(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return absl::NotFoundError(absl::StrCat("can't read ", path));
  return ParseTrace(file, path);
}

Plan Replayed(Plan plan, const Replay& replay) {
  if (!replay.keep_batches) SpreadBatches(&plan, replay.seed);
  if (replay.requests && plan.size() > *replay.requests) plan.resize(*replay.requests);
  for (PlannedRequest& request : plan) {
    request.at /= replay.speed;
    request.input_tokens = std::min(request.input_tokens, replay.input_max.value_or(kTokensMax));
    request.output_tokens = std::min(request.output_tokens, replay.output_max.value_or(kTokensMax));
  }
  if (replay.limit) {
    plan.erase(std::find_if(plan.begin(), plan.end(),
                            [&](const PlannedRequest& r) { return r.at >= *replay.limit; }),
               plan.end());
  }
  return plan;
}

}  // namespace tandem::bench
