#include "worker/model/weights_digest.h"

#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "base/block_hash.h"

namespace tandem {
namespace {

constexpr absl::string_view kVersion = "tandem-weights-1";
constexpr size_t kLeafBytes = 8 << 20;  // what one thread hashes at a time
constexpr size_t kHexBytes = 64;

// Every number of the spec that the forward pass uses, in a text that never changes by itself:
// floats as their exact hexadecimal digits.
std::string SpecText(const ModelSpec& spec) {
  const auto exact = [](double value) { return absl::StrFormat("%a", value); };
  const RopeSpec& rope = spec.rope;
  const std::string divisors =
      absl::StrJoin(rope.divisors, ",",
                    [&](std::string* out, float value) { absl::StrAppend(out, exact(value)); });
  return absl::StrJoin({spec.family,
                        absl::StrCat(spec.layers),
                        absl::StrCat(spec.dim),
                        absl::StrCat(spec.q_heads),
                        absl::StrCat(spec.kv_heads),
                        absl::StrCat(spec.head_dim),
                        absl::StrCat(spec.ffn_dim),
                        absl::StrCat(spec.vocab),
                        exact(spec.norm_eps),
                        exact(rope.theta),
                        absl::StrCat(static_cast<int>(rope.scaling)),
                        exact(rope.factor),
                        exact(rope.low_freq_factor),
                        exact(rope.high_freq_factor),
                        absl::StrCat(rope.original_context),
                        exact(rope.beta_fast),
                        exact(rope.beta_slow),
                        absl::StrCat(rope.truncate),
                        exact(rope.magnitude),
                        divisors,
                        absl::StrCat(spec.qkv_bias),
                        absl::StrCat(spec.o_bias),
                        absl::StrCat(spec.qk_norm),
                        absl::StrCat(spec.mlp_bias),
                        absl::StrCat(spec.tied_embeddings),
                        absl::StrJoin(spec.windows, ",")},
                       " ");
}

std::string WeightText(const NamedWeight& weight) {
  const WeightView& view = weight.view;
  const absl::string_view order = view.row_order.empty() ? "plain" : "rope-pairs";
  return absl::StrJoin(
      std::make_tuple(weight.name, weight.layer, NameOf(view.dtype), view.rows, view.cols, order),
      " ");
}

// The bytes of all weights, cut into leaves that threads can hash on their own.
std::vector<absl::Span<const uint8_t>> Leaves(const WeightTable& weights) {
  std::vector<absl::Span<const uint8_t>> leaves;
  for (const NamedWeight& weight : weights.all()) {
    const absl::Span<const uint8_t> bytes(weight.view.data, weight.view.bytes);
    for (size_t at = 0; at < bytes.size(); at += kLeafBytes) {
      leaves.push_back(bytes.subspan(at, kLeafBytes));
    }
  }
  return leaves;
}

std::vector<Sha256Digest> HashLeaves(absl::Span<const absl::Span<const uint8_t>> leaves,
                                     int threads) {
  std::vector<Sha256Digest> digests(leaves.size());
  std::atomic<size_t> next = 0;
  const auto work = [&] {
    for (size_t i = next++; i < leaves.size(); i = next++) {
      digests[i] = Sha256(leaves[i]);
    }
  };
  std::vector<std::jthread> helpers;
  for (int i = 1; i < threads; ++i) helpers.emplace_back(work);
  work();
  helpers.clear();  // joins
  return digests;
}

std::string DigestOfBytes(const WeightTable& weights, int threads) {
  Sha256Stream sha;
  for (const Sha256Digest& leaf : HashLeaves(Leaves(weights), threads)) sha.Update(leaf);
  return ToHex(sha.Finish());
}

// Everything that the digest of the bytes depends on, as far as it shows without reading them.
std::string CacheKey(const std::vector<std::string>& weight_texts,
                     const std::vector<MappedFile>& files) {
  Sha256Stream sha;
  sha.UpdateField(kVersion);
  for (const MappedFile& file : files) {
    const FileIdentity& id = file.identity();
    sha.UpdateField(absl::StrCat(id.device, " ", id.inode, " ", id.size, " ", id.mtime_ns));
  }
  for (const std::string& text : weight_texts) sha.UpdateField(text);
  return ToHex(sha.Finish());
}

std::string ReadCached(const std::string& path) {
  const absl::StatusOr<std::string> text = ReadFileUpTo(path, kHexBytes);
  return text.ok() && text->size() == kHexBytes ? *text : "";
}

// Written beside its place and renamed, so that a reader sees a whole digest or none.
void WriteCached(const std::string& folder, const std::string& path, const std::string& digest) {
  const size_t slash = folder.rfind('/');
  if (slash != std::string::npos) mkdir(folder.substr(0, slash).c_str(), 0700);
  if (mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST) return;
  const std::string draft = absl::StrCat(path, ".", getpid());
  std::FILE* file = std::fopen(draft.c_str(), "we");
  if (file == nullptr) return;
  const bool written = std::fwrite(digest.data(), 1, digest.size(), file) == digest.size();
  const bool closed = std::fclose(file) == 0;
  const bool whole = written && closed;
  if (!whole || std::rename(draft.c_str(), path.c_str()) != 0) std::remove(draft.c_str());
}

}  // namespace

std::string DigestOfWeights(const ModelSpec& spec, const WeightTable& weights,
                            const std::vector<MappedFile>& files,
                            const WeightsDigestOptions& options) {
  std::vector<std::string> texts;
  for (const NamedWeight& weight : weights.all()) texts.push_back(WeightText(weight));
  const std::string path = options.cache_folder.empty()
                               ? ""
                               : absl::StrCat(options.cache_folder, "/", CacheKey(texts, files));
  std::string bytes_digest = path.empty() ? "" : ReadCached(path);
  if (bytes_digest.empty()) {
    bytes_digest = DigestOfBytes(weights, options.threads);
    if (!path.empty()) WriteCached(options.cache_folder, path, bytes_digest);
  }
  return Sha256Hex(absl::StrCat(kVersion, "\n", SpecText(spec), "\n", absl::StrJoin(texts, "\n"),
                                "\n", bytes_digest));
}

}  // namespace tandem
