#include "base/ids.h"

#include <sys/random.h>

#include <cerrno>

#include "absl/strings/str_format.h"
#include "base/check.h"

namespace tandem {

uint64_t RandomUint64() {
  uint64_t value = 0;
  ssize_t got;
  do {
    got = getrandom(&value, sizeof value, 0);
  } while (got < 0 && errno == EINTR);
  TANDEM_CHECK(got == sizeof value, "the kernel has getrandom and gives 8 bytes at once");
  return value;
}

Incarnation NewIncarnation() {
  uint64_t value;
  do {
    value = RandomUint64();
  } while (value == 0);
  return Incarnation{value};
}

std::string NewRandomId() { return absl::StrFormat("%016x%016x", RandomUint64(), RandomUint64()); }

}  // namespace tandem
