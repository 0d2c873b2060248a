#include "kvstore/types.h"

namespace tandem {

size_t KvLayout::slice_bytes() const {
  const size_t element = dtype == "f32" ? 4 : 2;
  return size_t{2} * block_tokens * kv_heads * head_dim * element;
}

}  // namespace tandem
