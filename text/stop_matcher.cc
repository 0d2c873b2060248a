#include "text/stop_matcher.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status.h"

namespace tandem {
namespace {

std::vector<uint16_t> Borders(absl::string_view text) {
  std::vector<uint16_t> border(text.size(), 0);
  for (size_t i = 1; i < text.size(); ++i) {
    uint16_t length = border[i - 1];
    while (length > 0 && text[i] != text[length]) length = border[length - 1];
    border[i] = text[i] == text[length] ? length + 1 : 0;
  }
  return border;
}

}  // namespace

absl::Status StopMatcher::Check(absl::Span<const std::string> stops) {
  if (stops.size() > kMaxStops) {
    return absl::InvalidArgumentError(
        absl::StrCat("stop has ", stops.size(), " strings; at most ", kMaxStops, " are allowed"));
  }
  for (size_t i = 0; i < stops.size(); ++i) {
    if (stops[i].empty()) {
      return absl::InvalidArgumentError(absl::StrCat("stop[", i, "] is empty"));
    }
    if (stops[i].size() > kMaxStopBytes) {
      return absl::InvalidArgumentError(absl::StrCat("stop[", i, "] has ", stops[i].size(),
                                                     " bytes; at most ", kMaxStopBytes,
                                                     " are allowed"));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<StopMatcher> StopMatcher::Create(Options options) {
  RETURN_IF_ERROR(Check(options.stops));
  StopMatcher matcher;
  matcher.include_stop_ = options.include_stop;
  for (std::string& text : options.stops) {
    std::vector<uint16_t> border = Borders(text);
    matcher.stops_.push_back({.text = std::move(text), .border = std::move(border)});
  }
  return matcher;
}

bool StopMatcher::Stop::Advance(char c) {
  while (length > 0 && text[length] != c) length = border[length - 1];
  if (text[length] == c) ++length;
  return length == text.size();
}

std::string StopMatcher::Push(absl::string_view piece) {
  if (matched_) return "";
  const size_t seen = held_.size();
  absl::StrAppend(&held_, piece);
  for (size_t end = seen; end < held_.size(); ++end) {
    for (size_t i = 0; i < stops_.size(); ++i) {
      if (!stops_[i].Advance(held_[end])) continue;
      if (!matched_ || stops_[i].text.size() > stops_[*matched_].text.size()) matched_ = i;
    }
    if (matched_) {
      const size_t start = end + 1 - stops_[*matched_].text.size();
      std::string text = Release(include_stop_ ? end + 1 : start);
      held_.clear();
      return text;
    }
  }
  size_t doubtful = 0;
  for (const Stop& stop : stops_) doubtful = std::max<size_t>(doubtful, stop.length);
  return Release(held_.size() - doubtful);
}

std::string StopMatcher::Finish() { return Release(held_.size()); }

std::string StopMatcher::Release(size_t size) {
  std::string text = held_.substr(0, size);
  held_.erase(0, size);
  released_bytes_ += static_cast<int64_t>(size);
  return text;
}

}  // namespace tandem
