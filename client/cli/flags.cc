#include "client/cli/flags.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/nearest.h"
#include "base/status.h"
#include "client/cli/flag_value.h"

namespace tandem::cli {
namespace {

template <typename T>
Flags::Set WholeInto(absl::optional<T>* to) {
  return [to](absl::string_view text) {
    ASSIGN_OR_RETURN(*to, ParseWhole<T>(text));
    return absl::OkStatus();
  };
}

}  // namespace

void Flags::Add(absl::string_view name, absl::string_view value, absl::string_view doc, Set set) {
  flags_.push_back(
      {absl::StrCat("--", name), std::string(value), std::string(doc), std::move(set)});
}

void Flags::Text(absl::string_view name, absl::string_view value, absl::string_view doc,
                 std::string* to) {
  Add(name, value, doc, [to](absl::string_view text) {
    *to = std::string(text);
    return absl::OkStatus();
  });
}

void Flags::Text(absl::string_view name, absl::string_view value, absl::string_view doc,
                 absl::optional<std::string>* to) {
  Add(name, value, doc, [to](absl::string_view text) {
    *to = std::string(text);
    return absl::OkStatus();
  });
}

void Flags::Texts(absl::string_view name, absl::string_view value, absl::string_view doc,
                  std::vector<std::string>* to) {
  Add(name, value, doc, [to](absl::string_view text) {
    to->emplace_back(text);
    return absl::OkStatus();
  });
}

void Flags::Switch(absl::string_view name, absl::string_view doc, bool* to) {
  Add(name, "", doc, [to](absl::string_view) {
    *to = true;
    return absl::OkStatus();
  });
}

void Flags::Count(absl::string_view name, absl::string_view value, absl::string_view doc,
                  absl::optional<uint32_t>* to) {
  Add(name, value, doc, WholeInto(to));
}

void Flags::Seed(absl::string_view name, absl::string_view value, absl::string_view doc,
                 absl::optional<uint64_t>* to) {
  Add(name, value, doc, WholeInto(to));
}

void Flags::Real(absl::string_view name, absl::string_view value, absl::string_view doc,
                 absl::optional<float>* to) {
  Add(name, value, doc, [to](absl::string_view text) {
    ASSIGN_OR_RETURN(*to, ParseReal(text));
    return absl::OkStatus();
  });
}

void Flags::Ids(absl::string_view name, absl::string_view value, absl::string_view doc,
                std::vector<int32_t>* to) {
  Add(name, value, doc, [to](absl::string_view text) {
    ASSIGN_OR_RETURN(*to, ParseIds(text));
    return absl::OkStatus();
  });
}

absl::StatusOr<const Flags::Flag*> Flags::Find(absl::string_view name) const {
  std::vector<std::string> names;
  for (const Flag& flag : flags_) {
    if (flag.name == name) return &flag;
    names.push_back(flag.name);
  }
  names.push_back("--help");
  return absl::InvalidArgumentError(
      absl::StrCat("unknown flag ", name, "; ", Suggest(name, names)));
}

absl::StatusOr<std::vector<std::string>> Flags::Parse(absl::Span<const std::string> args) const {
  std::vector<std::string> rest;
  for (size_t i = 0; i < args.size(); ++i) {
    const absl::string_view arg = args[i];
    if (arg == "--") {
      rest.insert(rest.end(), args.begin() + i + 1, args.end());
      break;
    }
    if (arg.size() < 2 || arg[0] != '-') {
      rest.emplace_back(arg);
      continue;
    }
    const size_t equals = arg.find('=');
    ASSIGN_OR_RETURN(const Flag* flag, Find(arg.substr(0, equals)));
    absl::string_view value;
    if (equals != absl::string_view::npos) {
      if (flag->value.empty()) {
        return absl::InvalidArgumentError(absl::StrCat(flag->name, " takes no value"));
      }
      value = arg.substr(equals + 1);
    } else if (!flag->value.empty()) {
      if (++i == args.size()) {
        return absl::InvalidArgumentError(
            absl::StrCat(flag->name, " needs a value, ", flag->value));
      }
      value = args[i];
    }
    RETURN_IF_ERROR(Annotate(flag->set(value), flag->name));
  }
  return rest;
}

std::string Flags::Help() const {
  size_t width = 0;
  for (const Flag& flag : flags_) {
    width = std::max(width, flag.name.size() + flag.value.size() + 1);
  }
  std::string help;
  for (const Flag& flag : flags_) {
    std::string left = absl::StrCat(flag.name, " ", flag.value);
    left.resize(width, ' ');
    absl::StrAppend(&help, "  ", left, "  ", flag.doc, "\n");
  }
  return help;
}

}  // namespace tandem::cli
