//! Grammars: which tokens may come next in a sentence of a language (llguidance).
use std::sync::Arc;

use llguidance::api::{ParserLimits, StopReason, TopLevelGrammar};
use llguidance::earley::SlicedBiasComputer;
use llguidance::toktrie::{
    InferenceCapabilities, TokEnv, TokRxInfo, TokTrie, TokenId, TokenizerEnv,
};
use llguidance::{Matcher, ParserFactory};

use crate::ffi::{fail, Code, Fail, Outcome};
use crate::tokenizer::Tokenizer;

/// Schemas refer to one another to any depth, and the compiler recurses along.
const COMPILER_STACK: usize = 256 << 20;
/// llguidance reads a token whose bytes begin so as a special one.
const MARKER: u8 = TokTrie::SPECIAL_TOKEN_MARKER;
/// No grammar can spell this one, and llguidance wants there to be one.
const NAMELESS: &[u8] = b"\xff<\n>";
/// Longer tokens would need more parents than the trie's nodes count.
const LONGEST_TOKEN: usize = 1000;

/// The values of `tt_grammar_kind` in tandem_text.h.
pub enum Kind {
    JsonSchema,
    Regex,
    Lark,
    Choice,
}

impl Kind {
    pub fn from_raw(kind: i32) -> Outcome<Self> {
        match kind {
            0 => Ok(Kind::JsonSchema),
            1 => Ok(Kind::Regex),
            2 => Ok(Kind::Lark),
            3 => Ok(Kind::Choice),
            _ => fail(Code::Argument, "no such kind of grammar"),
        }
    }
}

/// The trie of a vocabulary. Its end of text is an id of its own behind all others, so that what
/// ends an output stays the caller's affair.
struct Vocabulary(TokTrie);

impl TokenizerEnv for Vocabulary {
    fn tok_trie(&self) -> &TokTrie {
        &self.0
    }

    fn tokenize_bytes(&self, text: &[u8]) -> Vec<TokenId> {
        self.0.greedy_tokenize(text)
    }

    /// False: a stretch that the grammar forces may be spelt in any tokens, as the model likes.
    fn tokenize_is_canonical(&self) -> bool {
        false
    }
}

/// What all grammars of one tokenizer share.
pub struct Environment {
    factory: ParserFactory,
    /// The tokens that may stand in a sentence, 32 to a word.
    eligible: Vec<u32>,
}

/// Bounds of what one grammar may cost; the comments are what reaching one takes.
fn limits() -> ParserLimits {
    ParserLimits {
        max_items_in_row: 2000,
        initial_lexer_fuel: 1_000_000, // about 20 ms of compiling
        step_lexer_fuel: 200_000,      // about 15 ms of one mask
        step_max_items: 50_000,        // about 3 ms of one mask
        max_lexer_states: 50_000,      // about 100 MB for one sequence
        max_grammar_size: 500_000,     // a few megabytes of JSON schema
        precompute_large_lexemes: true,
        verbose_errors: false,
    }
}

/// Sets of tokens that a mask takes whole where the grammar allows them all: llguidance's own,
/// which suit JSON strings, and what runs of letters need.
fn slices() -> Vec<String> {
    let mut slices = SlicedBiasComputer::general_slices();
    slices.extend(["[ A-Za-z]{1,10}".to_owned(), "[a-z]{1,10}".to_owned()]);
    slices
}

impl Environment {
    /// `width`: of the model's logits. Ids beyond it, holes and control tokens are never allowed.
    pub fn new(tokenizer: &Tokenizer, width: u32) -> Result<Self, String> {
        let mut words = vec![Vec::new(); width as usize + 1];
        let mut eligible = vec![0u32; (width as usize).div_ceil(32)];
        for id in 0..width {
            let bytes = tokenizer.table.bytes(id);
            if bytes.is_empty() || bytes.contains(&MARKER) || tokenizer.is_control(id) {
                continue;
            }
            if bytes.len() <= LONGEST_TOKEN {
                words[id as usize] = bytes.to_vec();
                eligible[id as usize / 32] |= 1 << (id % 32);
            }
        }
        words[width as usize] = NAMELESS.to_vec();
        let trie = TokTrie::from(&TokRxInfo::new(width + 1, width), &words);
        let env: TokEnv = Arc::new(Vocabulary(trie));
        let mut factory = ParserFactory::new(&env, InferenceCapabilities::default(), &slices())
            .map_err(|e| e.to_string())?;
        factory.quiet();
        *factory.limits_mut() = limits();
        Ok(Environment { factory, eligible })
    }

    fn compile_here(&self, kind: Kind, source: &str) -> Outcome<Matcher> {
        let grammar = match kind {
            Kind::JsonSchema => match serde_json::from_str(source) {
                Ok(schema) => TopLevelGrammar::from_json_schema(schema),
                Err(e) => return fail(Code::Parse, format!("not JSON: {e}")),
            },
            Kind::Regex => TopLevelGrammar::from_regex(source),
            Kind::Lark => TopLevelGrammar::from_lark(source.to_owned()),
            Kind::Choice => TopLevelGrammar::from_regex(&one_of(source)?),
        };
        let matcher = Matcher::new(self.factory.create_parser(grammar));
        match matcher.get_error() {
            Some(error) => Err(reason(&error)),
            None => Ok(matcher),
        }
    }
}

/// A grammar that is ready to be matched. Never changes.
pub struct Grammar {
    environment: Arc<Environment>,
    start: Matcher,
}

impl Grammar {
    pub fn compile(environment: &Arc<Environment>, kind: Kind, source: &str) -> Outcome<Grammar> {
        let start = std::thread::scope(|scope| {
            std::thread::Builder::new()
                .stack_size(COMPILER_STACK)
                .spawn_scoped(scope, || environment.compile_here(kind, source))
                .map_err(|e| Fail { code: Code::Limit, message: format!("no thread: {e}") })?
                .join()
                .unwrap_or_else(|_| fail(Code::Panic, "panic in the grammar compiler"))
        })?;
        Ok(Grammar { environment: Arc::clone(environment), start })
    }

    /// At the beginning of a sentence.
    pub fn matcher(&self) -> Sentence {
        // The lexer's cache is not shared: sequences would wait for one another.
        let matcher = self.start.deep_clone();
        Sentence { environment: Arc::clone(&self.environment), matcher }
    }
}

/// How far one sequence has come.
pub struct Sentence {
    environment: Arc<Environment>,
    matcher: Matcher,
}

impl Sentence {
    pub fn fork(&self) -> Sentence {
        Sentence { environment: Arc::clone(&self.environment), matcher: self.matcher.deep_clone() }
    }

    /// Sets the bits of the tokens that may come next. Returns whether the sentence may end here.
    pub fn mask(&mut self, out: &mut [u32]) -> Outcome<bool> {
        let eligible = &self.environment.eligible;
        if out.len() != eligible.len() {
            return fail(Code::Argument, format!("a mask has {} words", eligible.len()));
        }
        if self.finished() {
            out.fill(0);
            return Ok(true);
        }
        let mask = self.matcher.compute_mask().map_err(|e| reason(&e.to_string()))?;
        for ((out, mask), eligible) in out.iter_mut().zip(mask.as_slice()).zip(eligible) {
            *out = mask & eligible;
        }
        self.matcher.is_accepting().map_err(|e| reason(&e.to_string()))
    }

    pub fn consume(&mut self, tokens: &[u32]) -> Outcome<()> {
        for &token in tokens {
            let word = self.environment.eligible.get(token as usize / 32);
            if word.is_none_or(|word| word >> (token % 32) & 1 == 0) || self.finished() {
                return fail(Code::Limit, "the grammar does not allow a token that was drawn");
            }
            self.matcher.consume_token(token).map_err(|e| reason(&e.to_string()))?;
        }
        Ok(())
    }

    /// Whether the sentence is complete and nothing can follow.
    pub fn finished(&self) -> bool {
        matches!(
            self.matcher.stop_reason(),
            StopReason::NoExtension | StopReason::NoExtensionBias | StopReason::EndOfSentence
        )
    }
}

/// A regular expression for one of the strings in a JSON list.
fn one_of(list: &str) -> Outcome<String> {
    let choices: Vec<String> = serde_json::from_str(list)
        .map_err(|e| Fail { code: Code::Argument, message: format!("choices: {e}") })?;
    let spelt = |choice: &String| {
        choice.chars().map(|c| format!("\\u{{{:x}}}", c as u32)).collect::<String>()
    };
    Ok(choices.iter().map(spelt).collect::<Vec<_>>().join("|"))
}

/// llguidance's words for what is wrong, without what it adds for its own developers.
fn reason(error: &str) -> Fail {
    if error.starts_with("panic: ") {
        // Its text may quote the grammar; this goes to a log.
        return Fail { code: Code::Panic, message: "panic in the grammar engine".into() };
    }
    let of_developers = ["\n<non-verbose/>", "; following special tokens"];
    let end = of_developers.iter().filter_map(|tail| error.find(tail)).min();
    let message = match error[..end.unwrap_or(error.len())].trim_end() {
        "NoExtensionBias" => "no token of this model continues the sentence",
        words => words,
    };
    Fail { code: Code::Parse, message: shortened(message) }
}

/// Some errors quote the whole grammar; what is wrong stands at their beginning or at their end.
fn shortened(message: &str) -> String {
    const KEPT: usize = 300; // characters of either side
    let count = message.chars().count();
    if count <= 2 * KEPT {
        return message.to_owned();
    }
    let head = message.chars().take(KEPT);
    head.chain(" ... ".chars()).chain(message.chars().skip(count - KEPT)).collect()
}
