#pragma once
#include <cstdint>
#include <string>

namespace tandem {

// Which life of a process a message belongs to. Drawn at start-up, so that a restarted worker is
// never taken for the one that died; never 0.
enum class Incarnation : uint64_t {};

// All three draw from the kernel's generator (getrandom) and may be called from any thread.
uint64_t RandomUint64();
Incarnation NewIncarnation();
// 128 random bits as 32 lower-case hex digits: request ids, handoff ids, charge ids.
std::string NewRandomId();

}  // namespace tandem
