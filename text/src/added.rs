//! Added tokens in text: where they are, and which of them a user's text may not become.
//!
//! A *look-alike* is a stretch of text equal to a token that steers the model: every special token,
//! and every other added token of the shape `<...>` or `[...]` (`<think>`, `<tool_call>`). Added
//! tokens that are plain text (runs of blanks) are none.
use std::collections::{HashMap, HashSet};

use aho_corasick::{AhoCorasick, MatchKind};
use tokenizers::normalizer::Range;
use tokenizers::tokenizer::Token;
use tokenizers::{AddedToken, NormalizedString, Normalizer, PreTokenizedString, Tokenizer};

type Error = tokenizers::Error;

/// Which look-alikes are text and no tokens.
pub enum Plain<'a> {
    All,
    /// Those with one of these byte offsets, ascending, inside them (see `Lookalikes::barriers`).
    WithBarrier(&'a [u32]),
}

struct Entry {
    id: u32,
    token: AddedToken,
    lookalike: bool,
}

/// One set of added tokens that are looked for in one pass.
struct Finder {
    matcher: AhoCorasick,
    entries: Vec<Entry>,
}

pub struct AddedTokens {
    /// Looked for in the text as it came.
    raw: Option<Finder>,
    /// Looked for in the normalized text.
    normalized: Option<Finder>,
    lookalikes: HashMap<u32, String>,
}

fn is_control_shaped(text: &str) -> bool {
    text.len() > 2
        && ((text.starts_with('<') && text.ends_with('>'))
            || (text.starts_with('[') && text.ends_with(']')))
}

fn is_lookalike(token: &AddedToken) -> bool {
    token.special || is_control_shaped(&token.content)
}

fn is_word_char(c: Option<char>) -> bool {
    c.is_some_and(|c| c.is_alphanumeric() || c == '_')
}

impl Finder {
    fn new(mut tokens: Vec<(String, Entry)>) -> Result<Option<Self>, Error> {
        if tokens.is_empty() {
            return Ok(None);
        }
        tokens.sort_by_key(|(_, entry)| entry.id);
        let matcher = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(tokens.iter().map(|(pattern, _)| pattern))?;
        Ok(Some(Finder { matcher, entries: tokens.into_iter().map(|(_, entry)| entry).collect() }))
    }

    /// Splits `text` at the added tokens that count as such, the way the crate itself does.
    fn split(&self, text: NormalizedString, plain: &Plain) -> Vec<Piece> {
        let sentence = text.get();
        let mut pieces = Vec::new();
        let mut done = 0;
        let slice = |from: usize, to: usize| text.slice(Range::Normalized(from..to));
        for found in self.matcher.find_iter(sentence) {
            let entry = &self.entries[found.pattern().as_usize()];
            let (mut start, mut end) = (found.start(), found.end());
            let Some(exact) = slice(start, end) else { continue };
            if entry.lookalike && plain.covers(exact.offsets_original(), exact.get_original()) {
                continue;
            }
            let (before, after) = (&sentence[..start], &sentence[end..]);
            if entry.token.single_word
                && (is_word_char(before.chars().next_back()) || is_word_char(after.chars().next()))
            {
                continue;
            }
            if entry.token.lstrip {
                start = before.trim_end().len().max(done);
            }
            if entry.token.rstrip {
                end += after.len() - after.trim_start().len();
            }
            pieces.extend(slice(done, start).filter(|p| !p.get().is_empty()).map(|p| (p, None)));
            if let Some(piece) = slice(start, end) {
                let value = piece.get().to_owned();
                let span = (0, value.len());
                pieces.push((piece, Some(vec![Token::new(entry.id, value, span)])));
            }
            done = end;
        }
        if done != sentence.len() {
            pieces.extend(slice(done, sentence.len()).map(|p| (p, None)));
        }
        pieces
    }
}

type Piece = (NormalizedString, Option<Vec<Token>>);

impl Plain<'_> {
    /// Whether the look-alike at `span` of the original text is plain text.
    fn covers(&self, span: (usize, usize), original: &str) -> bool {
        let Plain::WithBarrier(barriers) = self else { return true };
        // A token of one character has no inside: a barrier right after it counts.
        let last = if original.chars().count() == 1 { span.1 } else { span.1.saturating_sub(1) };
        let next = barriers.partition_point(|&b| b as usize <= span.0);
        barriers.get(next).is_some_and(|&b| b as usize <= last)
    }
}

impl AddedTokens {
    pub fn new(tokenizer: &Tokenizer) -> Result<Self, Error> {
        let (mut raw, mut normalized) = (Vec::new(), Vec::new());
        let mut lookalikes = HashMap::new();
        for (id, token) in tokenizer.get_added_tokens_decoder() {
            let lookalike = is_lookalike(&token);
            if lookalike {
                lookalikes.insert(id, token.content.clone());
            }
            let mut pattern = NormalizedString::from(token.content.as_str());
            let list = if token.normalized { &mut normalized } else { &mut raw };
            if let (true, Some(normalizer)) = (token.normalized, tokenizer.get_normalizer()) {
                normalizer.normalize(&mut pattern)?;
            }
            if !pattern.get().is_empty() {
                list.push((pattern.get().to_owned(), Entry { id, token, lookalike }));
            }
        }
        Ok(AddedTokens { raw: Finder::new(raw)?, normalized: Finder::new(normalized)?, lookalikes })
    }

    /// Whether `id` is a look-alike's, for a stretch of text that spells it. (An unknown-token id
    /// also stands for text that does not.)
    pub fn is_lookalike(&self, id: u32, text: Option<&str>) -> bool {
        self.lookalikes.get(&id).is_some_and(|spelling| text == Some(spelling))
    }

    /// Whether `id` is a special token, or looks like one.
    pub fn is_control(&self, id: u32) -> bool {
        self.lookalikes.contains_key(&id)
    }

    /// Normalizes `text` and takes the added tokens out of it that are not `plain`.
    pub fn extract(
        &self,
        tokenizer: &Tokenizer,
        text: &str,
        plain: &Plain,
    ) -> Result<PreTokenizedString, Error> {
        let mut pieces = PreTokenizedString::from(text);
        if let Some(finder) = &self.raw {
            pieces.split(|_, piece| Ok(finder.split(piece, plain)))?;
        }
        pieces.split(|_, mut piece| {
            if let Some(normalizer) = tokenizer.get_normalizer() {
                normalizer.normalize(&mut piece)?;
            }
            Ok(match &self.normalized {
                Some(finder) => finder.split(piece, plain),
                None => vec![(piece, None)],
            })
        })?;
        Ok(pieces)
    }
}

/// Finds look-alikes in strings that are about to go through a template.
pub struct Lookalikes {
    /// None where there is none to look for.
    matcher: Option<AhoCorasick>,
    /// Every proper beginning of one: with what follows in the template it could become whole.
    beginnings: HashSet<String>,
    longest: usize,
}

impl Lookalikes {
    /// `special_only`: leave out the added tokens that are not special.
    pub fn new(tokenizer: &Tokenizer, special_only: bool) -> Result<Self, Error> {
        let texts: Vec<String> = tokenizer
            .get_added_tokens_decoder()
            .into_values()
            .filter(|token| is_lookalike(token) && (token.special || !special_only))
            .map(|token| token.content)
            .collect();
        let mut beginnings = HashSet::new();
        for text in &texts {
            beginnings.extend(text.char_indices().skip(1).map(|(i, _)| text[..i].to_owned()));
        }
        let longest = texts.iter().map(String::len).max().unwrap_or(0);
        let matcher = if texts.is_empty() { None } else { Some(AhoCorasick::new(&texts)?) };
        Ok(Lookalikes { matcher, beginnings, longest })
    }

    /// Byte offsets in `text`, ascending, such that a look-alike that begins in `text` has one of
    /// them inside it: after the first character of each.
    pub fn barriers(&self, text: &str) -> Vec<usize> {
        let Some(matcher) = &self.matcher else { return Vec::new() };
        let mut starts: Vec<usize> =
            matcher.find_overlapping_iter(text).map(|found| found.start()).collect();
        let tail = text.len().saturating_sub(self.longest);
        let boundaries = (tail..text.len()).filter(|&i| text.is_char_boundary(i));
        starts.extend(boundaries.filter(|&i| self.beginnings.contains(&text[i..])));
        starts.sort_unstable();
        starts.dedup();
        let first_char = |start: usize| text[start..].chars().next().map_or(0, char::len_utf8);
        starts.into_iter().map(|start| start + first_char(start)).collect()
    }
}
