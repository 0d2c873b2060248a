#include "worker/model/gguf.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/status.h"

namespace tandem {
namespace {

constexpr absl::string_view kMagic = "GGUF";
constexpr uint64_t kTensorsMax = 1 << 20;
constexpr uint64_t kMetadataMax = 1 << 16;
constexpr uint64_t kKeyBytesMax = 65535;
constexpr uint64_t kTensorNameBytesMax = 1024;
constexpr uint64_t kStringBytesMax = 16 << 20;
constexpr uint64_t kArrayMax = 1 << 24;  // elements
constexpr uint32_t kRankMax = 4;
constexpr uint32_t kAlignmentMax = 1 << 20;  // bytes

enum class ValueType : uint32_t {
  kUint8,
  kInt8,
  kUint16,
  kInt16,
  kUint32,
  kInt32,
  kFloat32,
  kBool,
  kString,
  kArray,
  kUint64,
  kInt64,
  kFloat64,
};

struct StoredType {
  uint32_t id;  // ggml's
  absl::string_view name;
  std::optional<DType> dtype;
};
constexpr StoredType kStoredTypes[] = {
    {0, "F32", DType::kF32},      {1, "F16", DType::kF16},       {2, "Q4_0", DType::kQ4_0},
    {3, "Q4_1", DType::kQ4_1},    {6, "Q5_0", std::nullopt},     {7, "Q5_1", std::nullopt},
    {8, "Q8_0", DType::kQ8_0},    {9, "Q8_1", std::nullopt},     {10, "Q2_K", std::nullopt},
    {11, "Q3_K", std::nullopt},   {12, "Q4_K", DType::kQ4_K},    {13, "Q5_K", DType::kQ5_K},
    {14, "Q6_K", DType::kQ6_K},   {15, "Q8_K", std::nullopt},    {16, "IQ2_XXS", std::nullopt},
    {17, "IQ2_XS", std::nullopt}, {18, "IQ3_XXS", std::nullopt}, {19, "IQ1_S", std::nullopt},
    {20, "IQ4_NL", std::nullopt}, {21, "IQ3_S", std::nullopt},   {22, "IQ2_S", std::nullopt},
    {23, "IQ4_XS", std::nullopt}, {24, "I8", std::nullopt},      {25, "I16", std::nullopt},
    {26, "I32", std::nullopt},    {27, "I64", std::nullopt},     {28, "F64", std::nullopt},
    {29, "IQ1_M", std::nullopt},  {30, "BF16", DType::kBF16},    {34, "TQ1_0", std::nullopt},
    {35, "TQ2_0", std::nullopt},  {39, "MXFP4", std::nullopt},
};

absl::Status Bad(absl::string_view tensor, absl::string_view problem) {
  return absl::InvalidArgumentError(absl::StrCat("tensor \"", tensor, "\": ", problem));
}

// Takes bytes from the front of the file and never looks past its end.
class Reader {
 public:
  explicit Reader(absl::Span<const uint8_t> file) : file_(file) {}
  uint64_t at() const { return at_; }
  uint64_t left() const { return file_.size() - at_; }

  template <typename T>
  absl::StatusOr<T> Read() {
    ASSIGN_OR_RETURN(const absl::string_view bytes, Take(sizeof(T)));
    T value;
    std::memcpy(&value, bytes.data(), sizeof(T));
    return value;
  }
  absl::StatusOr<absl::string_view> ReadString(uint64_t bytes_max) {
    ASSIGN_OR_RETURN(const uint64_t bytes, Read<uint64_t>());
    if (bytes > bytes_max) {
      return absl::InvalidArgumentError(absl::StrCat("at byte ", at_ - sizeof(bytes),
                                                     ": a string of ", bytes,
                                                     " bytes; the limit is ", bytes_max));
    }
    return Take(bytes);
  }

 private:
  absl::StatusOr<absl::string_view> Take(uint64_t bytes) {
    if (bytes > left()) {
      return absl::InvalidArgumentError(absl::StrCat("the file ends at byte ", file_.size(), "; ",
                                                     bytes, " bytes were to follow byte ", at_));
    }
    const absl::string_view taken(reinterpret_cast<const char*>(file_.data()) + at_, bytes);
    at_ += bytes;
    return taken;
  }

  const absl::Span<const uint8_t> file_;
  uint64_t at_ = 0;
};

template <typename Stored, typename Kept>
absl::StatusOr<GgufValue> ReadScalar(Reader& reader) {
  ASSIGN_OR_RETURN(const Stored value, reader.Read<Stored>());
  return GgufValue(static_cast<Kept>(value));
}

template <typename Stored, typename Kept>
absl::StatusOr<GgufValue> ReadNumbers(Reader& reader, uint64_t count) {
  if (count > reader.left() / sizeof(Stored)) {
    return absl::InvalidArgumentError(
        absl::StrCat("an array of ", count, " elements is longer than the rest of the file"));
  }
  std::vector<Kept> values;
  values.reserve(count);
  for (uint64_t i = 0; i < count; ++i) {
    ASSIGN_OR_RETURN(const Stored value, reader.Read<Stored>());
    if constexpr (std::is_same_v<Stored, uint64_t>) {
      if (value > uint64_t{1} << 62) return absl::InvalidArgumentError("a number above 2^62");
    }
    values.push_back(static_cast<Kept>(value));
  }
  return GgufValue(std::move(values));
}

absl::StatusOr<GgufValue> ReadStrings(Reader& reader, uint64_t count) {
  if (count > reader.left() / sizeof(uint64_t)) {
    return absl::InvalidArgumentError(
        absl::StrCat("an array of ", count, " strings is longer than the rest of the file"));
  }
  std::vector<absl::string_view> values;
  values.reserve(count);
  for (uint64_t i = 0; i < count; ++i) {
    ASSIGN_OR_RETURN(values.emplace_back(), reader.ReadString(kStringBytesMax));
  }
  return GgufValue(std::move(values));
}

absl::StatusOr<GgufValue> ReadArray(Reader& reader) {
  ASSIGN_OR_RETURN(const uint32_t type, reader.Read<uint32_t>());
  ASSIGN_OR_RETURN(const uint64_t count, reader.Read<uint64_t>());
  if (count > kArrayMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("an array of ", count, " elements; the limit is ", kArrayMax));
  }
  switch (static_cast<ValueType>(type)) {
    case ValueType::kUint8:
      return ReadNumbers<uint8_t, int64_t>(reader, count);
    case ValueType::kInt8:
      return ReadNumbers<int8_t, int64_t>(reader, count);
    case ValueType::kUint16:
      return ReadNumbers<uint16_t, int64_t>(reader, count);
    case ValueType::kInt16:
      return ReadNumbers<int16_t, int64_t>(reader, count);
    case ValueType::kUint32:
      return ReadNumbers<uint32_t, int64_t>(reader, count);
    case ValueType::kInt32:
      return ReadNumbers<int32_t, int64_t>(reader, count);
    case ValueType::kUint64:
      return ReadNumbers<uint64_t, int64_t>(reader, count);
    case ValueType::kInt64:
      return ReadNumbers<int64_t, int64_t>(reader, count);
    case ValueType::kBool:
      return ReadNumbers<uint8_t, int64_t>(reader, count);
    case ValueType::kFloat32:
      return ReadNumbers<float, double>(reader, count);
    case ValueType::kFloat64:
      return ReadNumbers<double, double>(reader, count);
    case ValueType::kString:
      return ReadStrings(reader, count);
    case ValueType::kArray:
      return absl::InvalidArgumentError("arrays in arrays are refused");
  }
  return absl::InvalidArgumentError(absl::StrCat("unknown element type ", type));
}

absl::StatusOr<GgufValue> ReadValue(Reader& reader) {
  ASSIGN_OR_RETURN(const uint32_t type, reader.Read<uint32_t>());
  switch (static_cast<ValueType>(type)) {
    case ValueType::kUint8:
      return ReadScalar<uint8_t, uint64_t>(reader);
    case ValueType::kInt8:
      return ReadScalar<int8_t, int64_t>(reader);
    case ValueType::kUint16:
      return ReadScalar<uint16_t, uint64_t>(reader);
    case ValueType::kInt16:
      return ReadScalar<int16_t, int64_t>(reader);
    case ValueType::kUint32:
      return ReadScalar<uint32_t, uint64_t>(reader);
    case ValueType::kInt32:
      return ReadScalar<int32_t, int64_t>(reader);
    case ValueType::kUint64:
      return ReadScalar<uint64_t, uint64_t>(reader);
    case ValueType::kInt64:
      return ReadScalar<int64_t, int64_t>(reader);
    case ValueType::kFloat32:
      return ReadScalar<float, double>(reader);
    case ValueType::kFloat64:
      return ReadScalar<double, double>(reader);
    case ValueType::kArray:
      return ReadArray(reader);
    case ValueType::kBool: {
      ASSIGN_OR_RETURN(const uint8_t value, reader.Read<uint8_t>());
      return GgufValue(value != 0);
    }
    case ValueType::kString: {
      ASSIGN_OR_RETURN(const absl::string_view value, reader.ReadString(kStringBytesMax));
      return GgufValue(value);
    }
  }
  return absl::InvalidArgumentError(absl::StrCat("unknown value type ", type));
}

struct Header {
  uint32_t version = 0;
  uint64_t tensors = 0;
  uint64_t metadata = 0;
};

absl::StatusOr<Header> ReadHeader(Reader& reader) {
  Header header;
  ASSIGN_OR_RETURN(const auto magic, (reader.Read<std::array<uint8_t, kMagic.size()>>()));
  if (!BeginsAsGguf(magic)) {
    return absl::InvalidArgumentError("not a GGUF file: it does not begin with \"GGUF\"");
  }
  ASSIGN_OR_RETURN(header.version, reader.Read<uint32_t>());
  if ((header.version & 0xffff) == 0) {
    return absl::UnimplementedError("a big-endian GGUF file; only little-endian ones are read");
  }
  if (header.version != 2 && header.version != 3) {
    return absl::UnimplementedError(
        absl::StrCat("GGUF version ", header.version, "; versions 2 and 3 are read"));
  }
  ASSIGN_OR_RETURN(header.tensors, reader.Read<uint64_t>());
  ASSIGN_OR_RETURN(header.metadata, reader.Read<uint64_t>());
  if (header.tensors > kTensorsMax || header.metadata > kMetadataMax) {
    return absl::InvalidArgumentError(absl::StrCat(header.tensors, " tensors and ", header.metadata,
                                                   " metadata entries; the limits are ",
                                                   kTensorsMax, " and ", kMetadataMax));
  }
  return header;
}

absl::Status ReadMetadata(Reader& reader, uint64_t count, GgufMetadata& metadata) {
  for (uint64_t i = 0; i < count; ++i) {
    ASSIGN_OR_RETURN(const absl::string_view key, reader.ReadString(kKeyBytesMax));
    absl::StatusOr<GgufValue> value = ReadValue(reader);
    if (!value.ok()) return Annotate(value.status(), absl::StrCat("metadata ", key));
    if (metadata.Has(key)) {
      return absl::InvalidArgumentError(absl::StrCat("metadata ", key, " appears twice"));
    }
    metadata.Add(std::string(key), *std::move(value));
  }
  return absl::OkStatus();
}

struct Placed {
  TensorInfo info;
  uint64_t offset = 0;  // bytes, from the start of the data
  uint64_t bytes = 0;
};

absl::StatusOr<const StoredType*> TypeOf(uint32_t id) {
  const auto* type = std::find_if(std::begin(kStoredTypes), std::end(kStoredTypes),
                                  [&](const StoredType& t) { return t.id == id; });
  if (type != std::end(kStoredTypes) && type->dtype) return type;
  const std::string name =
      type == std::end(kStoredTypes) ? absl::StrCat("unknown type ", id) : std::string(type->name);
  const std::string supported = absl::StrJoin(
      kAllDTypes, ", ", [](std::string* out, DType d) { absl::StrAppend(out, NameOf(d)); });
  return absl::UnimplementedError(absl::StrCat("its type is ", name, "; supported: ", supported));
}

absl::StatusOr<std::vector<int64_t>> ReadShape(Reader& reader) {
  ASSIGN_OR_RETURN(const uint32_t rank, reader.Read<uint32_t>());
  if (rank == 0 || rank > kRankMax) {
    return absl::InvalidArgumentError(
        absl::StrCat(rank, " dimensions; 1 to ", kRankMax, " are allowed"));
  }
  std::vector<int64_t> shape(rank);
  for (uint32_t i = 0; i < rank; ++i) {  // the file has the innermost first
    ASSIGN_OR_RETURN(const uint64_t extent, reader.Read<uint64_t>());
    if (extent == 0 || extent > uint64_t{1} << 40) {
      return absl::InvalidArgumentError(absl::StrCat("an extent of ", extent));
    }
    shape[rank - 1 - i] = static_cast<int64_t>(extent);
  }
  return shape;
}

absl::StatusOr<Placed> ReadTensor(Reader& reader) {
  Placed tensor;
  ASSIGN_OR_RETURN(tensor.info.shape, ReadShape(reader));
  ASSIGN_OR_RETURN(const uint32_t type_id, reader.Read<uint32_t>());
  ASSIGN_OR_RETURN(const StoredType* type, TypeOf(type_id));
  ASSIGN_OR_RETURN(tensor.offset, reader.Read<uint64_t>());
  tensor.info.type_name = std::string(type->name);
  tensor.info.dtype = type->dtype;
  const DTypeInfo stored = InfoOf(*type->dtype);
  const std::optional<int64_t> elements = ElementsOf(tensor.info.shape);
  int64_t bytes = 0;
  if (!elements || __builtin_mul_overflow(*elements, stored.block_bytes, &bytes)) {
    return absl::InvalidArgumentError("its shape comes to more than 2^62 bytes");
  }
  if (tensor.info.shape.back() % stored.block_elements != 0) {
    return absl::InvalidArgumentError(absl::StrCat("rows of ", tensor.info.shape.back(),
                                                   " elements are no whole number of ", stored.name,
                                                   " blocks of ", stored.block_elements));
  }
  tensor.bytes = BytesFor(*type->dtype, *elements);
  return tensor;
}

absl::StatusOr<std::vector<Placed>> ReadTensors(Reader& reader, uint64_t count) {
  std::vector<Placed> tensors;
  absl::flat_hash_set<absl::string_view> names;
  for (uint64_t i = 0; i < count; ++i) {
    ASSIGN_OR_RETURN(const absl::string_view name, reader.ReadString(kTensorNameBytesMax));
    if (!names.insert(name).second) return Bad(name, "the name appears twice");
    absl::StatusOr<Placed> tensor = ReadTensor(reader);
    if (!tensor.ok()) {
      return Annotate(tensor.status(), absl::StrCat("tensor \"", name, "\""));
    }
    tensor->info.name = std::string(name);
    tensors.push_back(*std::move(tensor));
  }
  return tensors;
}

// Gives every tensor its bytes; `data_begin` is where the file's data starts.
absl::Status PlaceTensors(absl::Span<const uint8_t> file, uint64_t data_begin, uint64_t alignment,
                          std::vector<Placed>& tensors) {
  const uint64_t data_bytes = file.size() - std::min<uint64_t>(data_begin, file.size());
  std::sort(tensors.begin(), tensors.end(),
            [](const Placed& a, const Placed& b) { return a.offset < b.offset; });
  uint64_t taken = 0;
  for (Placed& tensor : tensors) {
    if (tensor.offset % alignment != 0) {
      return Bad(tensor.info.name,
                 absl::StrCat("its offset ", tensor.offset, " is no multiple of ", alignment));
    }
    if (tensor.offset > data_bytes || tensor.bytes > data_bytes - tensor.offset) {
      return Bad(tensor.info.name, absl::StrCat("its ", tensor.bytes, " bytes at ", tensor.offset,
                                                " lie outside the file's ", data_bytes,
                                                " bytes of data; is the file cut off?"));
    }
    if (tensor.offset < taken) return Bad(tensor.info.name, "overlaps another tensor");
    taken = tensor.offset + tensor.bytes;
    tensor.info.bytes = file.subspan(data_begin + tensor.offset, tensor.bytes);
  }
  return absl::OkStatus();
}

absl::StatusOr<uint32_t> AlignmentOf(const GgufMetadata& metadata) {
  ASSIGN_OR_RETURN(const int32_t alignment, metadata.IntOr("general.alignment", 32));
  if (alignment < 8 || alignment > kAlignmentMax || (alignment & (alignment - 1)) != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("metadata general.alignment: want a power of two in [8, ", kAlignmentMax,
                     "], found ", alignment));
  }
  return static_cast<uint32_t>(alignment);
}

}  // namespace

bool BeginsAsGguf(absl::Span<const uint8_t> file) {
  return file.size() >= kMagic.size() && std::equal(kMagic.begin(), kMagic.end(), file.begin());
}

absl::StatusOr<Gguf> ParseGguf(absl::Span<const uint8_t> file) {
  Reader reader(file);
  ASSIGN_OR_RETURN(const Header header, ReadHeader(reader));
  Gguf gguf;
  gguf.version = header.version;
  RETURN_IF_ERROR(ReadMetadata(reader, header.metadata, gguf.metadata));
  ASSIGN_OR_RETURN(const int32_t parts, gguf.metadata.IntOr("split.count", 1));
  if (parts > 1) {
    return absl::UnimplementedError(
        absl::StrCat("one of ", parts, " parts of a split GGUF file; merge them into one file"));
  }
  ASSIGN_OR_RETURN(const uint32_t alignment, AlignmentOf(gguf.metadata));
  ASSIGN_OR_RETURN(std::vector<Placed> tensors, ReadTensors(reader, header.tensors));
  const uint64_t data_begin = (reader.at() + alignment - 1) / alignment * alignment;
  RETURN_IF_ERROR(PlaceTensors(file, data_begin, alignment, tensors));
  gguf.tensors.reserve(tensors.size());
  for (Placed& tensor : tensors) gguf.tensors.push_back(std::move(tensor.info));
  return gguf;
}

}  // namespace tandem
