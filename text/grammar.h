#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "text/tokenizer.h"

struct tt_environment;
struct tt_grammar;
struct tt_matcher;

namespace tandem {

// The language that an output must be a sentence of, as a client writes it.
struct GrammarSource {
  enum class Kind : uint8_t {
    kJsonSchema,  // text: a JSON schema; what llguidance lacks of JSON Schema is refused
    kRegex,       // text: a regular expression that the whole output matches
    kLark,        // text: a grammar in llguidance's variant of Lark, from the rule `start`
    kChoice,      // choices: one of these strings
  };
  Kind kind = Kind::kJsonSchema;
  std::string text;
  std::vector<std::string> choices;
  friend bool operator==(const GrammarSource&, const GrammarSource&) = default;
};

// A compiled grammar.
//   life    immutable, shared; keeps what it needs of its environment
//   threads any
class Grammar {
 public:
  explicit Grammar(tt_grammar* handle, size_t mask_words)
      : handle_(handle), mask_words_(mask_words) {}
  ~Grammar();
  Grammar(const Grammar&) = delete;
  Grammar& operator=(const Grammar&) = delete;

  const tt_grammar* handle() const { return handle_; }
  size_t mask_words() const { return mask_words_; }

 private:
  tt_grammar* const handle_;
  const size_t mask_words_;
};

// The vocabulary as grammars see it: the bytes of every token that may stand in a text.
//   units   a mask has one bit for each of the model's logits, 32 to a word
//   life    immutable, shared; the tokenizer may go first. Costs about 0.3 s and 25 MB for a
//           vocabulary of 150,000
//   errors  InvalidArgument with llguidance's reason for a grammar that is wrong, that it lacks
//           something for, or that costs more than the limits in text/src/grammar.rs
//   threads all methods may run at once. Compile takes milliseconds, up to about 0.1 s for the
//           worst that the limits let through: keep it off an engine's thread
class GrammarEnvironment {
 public:
  static constexpr size_t kMaxSourceBytes = 512 << 10;  // what any one grammar may have

  // `logits`: how many the model has. Ids beyond them, holes, special tokens and what looks like
  // one (<think>) are in no mask.
  static absl::StatusOr<std::shared_ptr<const GrammarEnvironment>> Create(
      const Tokenizer& tokenizer, int32_t logits);
  ~GrammarEnvironment();
  GrammarEnvironment(const GrammarEnvironment&) = delete;
  GrammarEnvironment& operator=(const GrammarEnvironment&) = delete;

  absl::StatusOr<std::shared_ptr<const Grammar>> Compile(const GrammarSource& source) const;

 private:
  GrammarEnvironment(tt_environment* handle, size_t mask_words)
      : handle_(handle), mask_words_(mask_words) {}

  tt_environment* const handle_;
  const size_t mask_words_;
};

// How far one output has come in its sentence, and what may follow. A mask depends on the grammar
// and the tokens consumed, and on nothing else.
//   units   masks as GrammarEnvironment's
//   life    Create, then masks and tokens in turn until a token finishes the sentence
//   errors  InvalidArgument: a token that the grammar does not allow, a state from which no token
//           of this model goes on, or one that is dearer than the limits. It is of no use then
//   threads one at a time. A mask of a JSON schema takes about 15 us at the median, up to about
//           15 ms at the limits
class GrammarMatcher {
 public:
  static absl::StatusOr<std::unique_ptr<GrammarMatcher>> Create(
      std::shared_ptr<const Grammar> grammar);
  ~GrammarMatcher();
  GrammarMatcher(const GrammarMatcher&) = delete;
  GrammarMatcher& operator=(const GrammarMatcher&) = delete;

  // A second matcher in the same state.
  absl::StatusOr<std::unique_ptr<GrammarMatcher>> Fork() const;

  size_t mask_words() const { return grammar_->mask_words(); }
  // Writes which tokens may come next into mask_words() words. Returns whether the sentence may end
  // here; it may be that no token is allowed then.
  absl::StatusOr<bool> ComputeMask(absl::Span<uint32_t> mask);
  // Goes on behind these tokens. Returns whether the sentence is finished: nothing can follow it.
  absl::StatusOr<bool> Consume(absl::Span<const int32_t> tokens);

 private:
  GrammarMatcher(std::shared_ptr<const Grammar> grammar, tt_matcher* handle)
      : grammar_(std::move(grammar)), handle_(handle) {}

  const std::shared_ptr<const Grammar> grammar_;
  tt_matcher* const handle_;
};

}  // namespace tandem
