#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/optional.h"
#include "absl/types/span.h"

namespace tandem::cli {

// The flags of one command: declared, then parsed, then shown by --help.
//   order   "--name value" and "--name=value"; "--" ends the flags; the last of two wins
//   errors  InvalidArgument names the flag, what was wrong, and for an unknown one the nearest
//   life    what a flag writes to must outlive Parse()
class Flags {
 public:
  using Set = std::function<absl::Status(absl::string_view text)>;

  // `value`: how --help names it, e.g. "H:P"; empty for a switch, whose text is empty too.
  void Add(absl::string_view name, absl::string_view value, absl::string_view doc, Set set);
  void Text(absl::string_view name, absl::string_view value, absl::string_view doc,
            std::string* to);
  void Text(absl::string_view name, absl::string_view value, absl::string_view doc,
            absl::optional<std::string>* to);
  void Texts(absl::string_view name, absl::string_view value, absl::string_view doc,
             std::vector<std::string>* to);  // may be given more than once
  void Switch(absl::string_view name, absl::string_view doc, bool* to);
  void Count(absl::string_view name, absl::string_view value, absl::string_view doc,
             absl::optional<uint32_t>* to);
  void Seed(absl::string_view name, absl::string_view value, absl::string_view doc,
            absl::optional<uint64_t>* to);
  void Real(absl::string_view name, absl::string_view value, absl::string_view doc,
            absl::optional<float>* to);
  void Ids(absl::string_view name, absl::string_view value, absl::string_view doc,
           std::vector<int32_t>* to);  // "1,2,3"

  // Returns what is no flag, in order.
  absl::StatusOr<std::vector<std::string>> Parse(absl::Span<const std::string> args) const;
  // One line a flag, aligned.
  std::string Help() const;

 private:
  struct Flag {
    std::string name;   // with its dashes
    std::string value;  // empty for a switch
    std::string doc;
    Set set;
  };
  absl::StatusOr<const Flag*> Find(absl::string_view name) const;

  std::vector<Flag> flags_;
};

}  // namespace tandem::cli
