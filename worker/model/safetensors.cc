#include "worker/model/safetensors.h"

#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <set>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "worker/model/json.h"

namespace tandem {
namespace {

using nlohmann::json;

constexpr uint64_t kHeaderBytesMax = 100'000'000;
constexpr size_t kIndexBytesMax = 64 << 20;
constexpr size_t kRankMax = 8;
constexpr size_t kShardsMax = 4096;
constexpr int kHeaderDepthMax = 3;  // header, tensor, shape

struct StoredType {
  absl::string_view name;
  int64_t bytes;
  std::optional<DType> dtype;
};
constexpr StoredType kStoredTypes[] = {
    {"F32", 4, DType::kF32},      {"F16", 2, DType::kF16},      {"BF16", 2, DType::kBF16},
    {"F64", 8, std::nullopt},     {"I64", 8, std::nullopt},     {"U64", 8, std::nullopt},
    {"I32", 4, std::nullopt},     {"U32", 4, std::nullopt},     {"I16", 2, std::nullopt},
    {"U16", 2, std::nullopt},     {"I8", 1, std::nullopt},      {"U8", 1, std::nullopt},
    {"BOOL", 1, std::nullopt},    {"F8_E4M3", 1, std::nullopt}, {"F8_E5M2", 1, std::nullopt},
    {"F8_E8M0", 1, std::nullopt},
};

struct Placed {
  TensorInfo info;
  uint64_t begin = 0;  // bytes, from the start of the data
  uint64_t end = 0;
};

absl::Status Bad(absl::string_view tensor, absl::string_view problem) {
  return absl::InvalidArgumentError(absl::StrCat("tensor \"", tensor, "\": ", problem));
}

absl::StatusOr<std::vector<int64_t>> ShapeOf(const std::string& name, const json& entry) {
  const json* shape = JsonFields(entry).Find("shape");
  if (shape == nullptr || !shape->is_array() || shape->size() > kRankMax) {
    return Bad(name, absl::StrCat("\"shape\" must be an array of at most ", kRankMax, " numbers"));
  }
  std::vector<int64_t> extents;
  for (const json& extent : *shape) {
    if (!extent.is_number_unsigned() || extent.get<uint64_t>() > (uint64_t{1} << 40)) {
      return Bad(name, "\"shape\" has an extent that is no whole number up to 2^40");
    }
    extents.push_back(extent.get<int64_t>());
  }
  return extents;
}

absl::StatusOr<Placed> PlacedTensor(const std::string& name, const json& entry,
                                    absl::Span<const uint8_t> data) {
  const JsonFields fields(entry);
  ASSIGN_OR_RETURN(const std::string type_name, fields.StringOr("dtype", ""));
  const auto* type = std::find_if(std::begin(kStoredTypes), std::end(kStoredTypes),
                                  [&](const StoredType& t) { return t.name == type_name; });
  if (type == std::end(kStoredTypes)) {
    return Bad(name, absl::StrCat("unknown \"dtype\" \"", type_name, "\""));
  }
  ASSIGN_OR_RETURN(std::vector<int64_t> shape, ShapeOf(name, entry));
  const json* offsets = fields.Find("data_offsets");
  if (offsets == nullptr || !offsets->is_array() || offsets->size() != 2 ||
      !(*offsets)[0].is_number_unsigned() || !(*offsets)[1].is_number_unsigned()) {
    return Bad(name, "\"data_offsets\" must be two whole numbers");
  }
  const uint64_t begin = (*offsets)[0].get<uint64_t>();
  const uint64_t end = (*offsets)[1].get<uint64_t>();
  if (begin > end || end > data.size()) {
    return Bad(name, absl::StrCat("bytes [", begin, ", ", end, ") lie outside the file's ",
                                  data.size(), " bytes of data; is the file cut off?"));
  }
  const std::optional<int64_t> elements = ElementsOf(shape);
  int64_t bytes = 0;
  if (!elements || __builtin_mul_overflow(*elements, type->bytes, &bytes) ||
      static_cast<uint64_t>(bytes) != end - begin) {
    return Bad(name, absl::StrCat("its shape and type don't come to its ", end - begin, " bytes"));
  }
  return Placed{.info = {.name = name,
                         .type_name = type_name,
                         .dtype = type->dtype,
                         .shape = std::move(shape),
                         .bytes = data.subspan(begin, end - begin)},
                .begin = begin,
                .end = end};
}

// Collects the header's entries one by one as the JSON parser finishes them, so that the memory of
// a hostile header is that of its text. The parser has no way to stop: after an error all is
// skipped.
class HeaderReader {
 public:
  explicit HeaderReader(absl::Span<const uint8_t> data) : data_(data) {}

  bool OnEvent(int depth, json::parse_event_t event, json& parsed) {
    using Event = json::parse_event_t;
    if (!status_.ok()) return false;
    const bool opens = event == Event::object_start || event == Event::array_start;
    if (opens && depth >= kHeaderDepthMax) {
      status_ = absl::InvalidArgumentError("the header is nested too deeply");
    } else if (depth == 1 && event == Event::key) {
      BeginEntry(parsed.get<std::string>());
    } else if (depth == 1 && (event == Event::value || event == Event::array_end)) {
      status_ = Bad(key_, "its entry must be an object");
    } else if (depth == 1 && event == Event::object_end) {
      EndEntry(parsed);
      return false;
    }
    return status_.ok();
  }
  absl::StatusOr<std::vector<Placed>> Take() && {
    if (!status_.ok()) return status_;
    return std::move(tensors_);
  }

 private:
  void BeginEntry(std::string key) {
    key_ = std::move(key);
    if (!keys_.insert(key_).second) status_ = Bad(key_, "the name appears twice");
  }
  void EndEntry(const json& entry) {
    if (key_ == "__metadata__") return;
    absl::StatusOr<Placed> tensor = PlacedTensor(key_, entry, data_);
    if (!tensor.ok()) {
      status_ = tensor.status();
      return;
    }
    tensors_.push_back(*std::move(tensor));
  }

  const absl::Span<const uint8_t> data_;
  absl::Status status_;
  std::string key_;
  absl::flat_hash_set<std::string> keys_;
  std::vector<Placed> tensors_;
};

absl::Status CheckContiguous(std::vector<Placed>& tensors, uint64_t data_bytes) {
  std::sort(tensors.begin(), tensors.end(), [](const Placed& a, const Placed& b) {
    return std::tie(a.begin, a.end, a.info.name) < std::tie(b.begin, b.end, b.info.name);
  });
  uint64_t expected = 0;
  for (const Placed& tensor : tensors) {
    if (tensor.begin != expected) {
      return Bad(tensor.info.name,
                 absl::StrCat("starts at byte ", tensor.begin, " of the data, where ", expected,
                              tensor.begin < expected ? " would not overlap the one before"
                                                      : " would leave no hole"));
    }
    expected = tensor.end;
  }
  if (expected == data_bytes) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("the tensors end at byte ", expected, " of ", data_bytes, " bytes of data"));
}

// weight_map of an index: tensor name -> file name.
absl::StatusOr<std::vector<std::pair<std::string, std::string>>> ReadIndex(
    const std::string& path) {
  ASSIGN_OR_RETURN(const std::string text, ReadFileUpTo(path, kIndexBytesMax));
  ASSIGN_OR_RETURN(const json index, ParseJson(text));
  const json* map = JsonFields(index).Find("weight_map");
  if (map == nullptr || !map->is_object()) {
    return absl::InvalidArgumentError("\"weight_map\" must be an object");
  }
  std::vector<std::pair<std::string, std::string>> entries;
  for (const auto& [tensor, shard] : map->items()) {
    const std::string file = shard.is_string() ? shard.get<std::string>() : "";
    if (!absl::EndsWith(file, ".safetensors") || file.find_first_of("/\\") != std::string::npos ||
        file.find('\0') != std::string::npos) {
      return Bad(tensor, absl::StrCat("\"", file, "\" is not the name of a safetensors file of ",
                                      "the same folder"));
    }
    entries.emplace_back(tensor, file);
  }
  return entries;
}

absl::Status AddFile(const std::string& path, TensorSet& set) {
  ASSIGN_OR_RETURN(MappedFile file, MappedFile::Open(path));
  absl::StatusOr<std::vector<TensorInfo>> tensors = ParseSafetensors(file.bytes());
  if (!tensors.ok()) return Annotate(tensors.status(), path);
  for (TensorInfo& tensor : *tensors) {
    const std::string name = tensor.name;
    if (!set.tensors.emplace(name, std::move(tensor)).second) {
      return Annotate(Bad(name, "another shard has it too"), path);
    }
  }
  set.files.push_back(std::move(file));
  return absl::OkStatus();
}

absl::StatusOr<TensorSet> OpenShards(const std::string& folder, const std::string& index_path) {
  const auto index = ReadIndex(index_path);
  if (!index.ok()) return Annotate(index.status(), index_path);
  std::set<std::string> shards;
  for (const auto& [tensor, shard] : *index) shards.insert(shard);
  if (shards.size() > kShardsMax) {
    return absl::InvalidArgumentError(
        absl::StrCat(index_path, ": ", shards.size(), " shards; the limit is ", kShardsMax));
  }
  TensorSet set;
  for (const std::string& shard : shards) {
    RETURN_IF_ERROR(Annotate(AddFile(absl::StrCat(folder, "/", shard), set), index_path));
  }
  for (const auto& [tensor, shard] : *index) {
    if (!set.tensors.contains(tensor)) {
      return Annotate(Bad(tensor, absl::StrCat("not in ", shard)), index_path);
    }
  }
  return set;
}

}  // namespace

absl::StatusOr<std::vector<TensorInfo>> ParseSafetensors(absl::Span<const uint8_t> file) {
  uint64_t header_bytes = 0;
  if (file.size() < sizeof(header_bytes)) {
    return absl::InvalidArgumentError(
        absl::StrCat("not a safetensors file: it has ", file.size(), " bytes"));
  }
  std::memcpy(&header_bytes, file.data(), sizeof(header_bytes));
  if (header_bytes > kHeaderBytesMax || header_bytes > file.size() - sizeof(header_bytes)) {
    return absl::InvalidArgumentError(absl::StrCat("the header is said to have ", header_bytes,
                                                   " bytes; the file has ", file.size(),
                                                   " and the limit is ", kHeaderBytesMax));
  }
  const absl::Span<const uint8_t> header = file.subspan(sizeof(header_bytes), header_bytes);
  const absl::Span<const uint8_t> data = file.subspan(sizeof(header_bytes) + header_bytes);
  HeaderReader reader(data);
  const json rest = json::parse(
      header.begin(), header.end(),
      [&](int depth, json::parse_event_t event, json& parsed) {
        return reader.OnEvent(depth, event, parsed);
      },
      /*allow_exceptions=*/false);
  ASSIGN_OR_RETURN(std::vector<Placed> tensors, std::move(reader).Take());
  if (!rest.is_object()) return absl::InvalidArgumentError("the header is not a JSON object");
  RETURN_IF_ERROR(CheckContiguous(tensors, data.size()));
  std::vector<TensorInfo> infos;
  infos.reserve(tensors.size());
  for (Placed& tensor : tensors) infos.push_back(std::move(tensor.info));
  return infos;
}

absl::StatusOr<TensorSet> OpenSafetensorsFolder(const std::string& folder) {
  TensorSet set;
  const absl::Status single = AddFile(absl::StrCat(folder, "/model.safetensors"), set);
  if (single.ok()) return set;
  if (!absl::IsNotFound(single)) return single;
  const std::string index = absl::StrCat(folder, "/model.safetensors.index.json");
  if (access(index.c_str(), F_OK) != 0) {
    return absl::NotFoundError(absl::StrCat(
        folder, ": neither model.safetensors nor model.safetensors.index.json is there; weights ",
        "in other formats (pytorch_model.bin) must be saved as safetensors first"));
  }
  return OpenShards(folder, index);
}

}  // namespace tandem
