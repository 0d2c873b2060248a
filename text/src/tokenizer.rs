//! One tokenizer.json, ready to encode.
use std::sync::Arc;

use serde::Deserialize;
use tokenizers::{
    Encoding, Model, OffsetType, PreTokenizedString, PreTokenizer, Token, Tokenizer as Crate,
};

use crate::added::{AddedTokens, Lookalikes, Plain};
use crate::token_table::TokenTable;

type Error = tokenizers::Error;

pub struct Tokenizer {
    inner: Crate,
    added: AddedTokens,
    pub table: Arc<TokenTable>,
    /// For text of people and tools.
    pub lookalikes: Lookalikes,
    /// For text that a model wrote: what is not special there (`<think>`) keeps its meaning.
    pub special_lookalikes: Lookalikes,
}

#[derive(Clone, Copy)]
pub struct EncodeOptions<'a> {
    /// Put the BOS, EOS, ... that the tokenizer asks for round the text.
    pub add_special: bool,
    /// Read special tokens in the text as such.
    pub parse_special: bool,
    /// Where reading them is forbidden all the same; ascending byte offsets.
    pub barriers: &'a [u32],
}

#[derive(Deserialize)]
struct DeclaredTokens {
    #[serde(default)]
    added_tokens: Vec<DeclaredToken>,
}

#[derive(Deserialize)]
struct DeclaredToken {
    id: u32,
    content: String,
}

/// The crate numbers added tokens itself, and only warns when the file says otherwise. A model
/// would then read other tokens than were meant.
fn check_added_ids(tokenizer: &Crate, json: &[u8]) -> Result<(), Error> {
    let declared: DeclaredTokens = serde_json::from_slice(json)?;
    for token in declared.added_tokens.iter().filter(|token| !token.content.is_empty()) {
        let (content, there) = (&token.content, token.id);
        match tokenizer.token_to_id(content) {
            Some(id) if id == there => {}
            Some(id) => {
                let clash = format!("has id {there} there and {id} in the vocabulary");
                return Err(format!("added token {content:?} {clash}").into());
            }
            None => return Err(format!("added token {content:?} was not added").into()),
        }
    }
    Ok(())
}

impl Tokenizer {
    pub fn from_json(json: &[u8]) -> Result<Self, Error> {
        let mut inner = Crate::from_bytes(json)?;
        check_added_ids(&inner, json)?;
        inner.with_truncation(None)?; // a saved training setting must not cut prompts
        inner.with_padding(None);
        let table = Arc::new(TokenTable::build(&inner)?);
        Ok(Tokenizer {
            added: AddedTokens::new(&inner)?,
            lookalikes: Lookalikes::new(&inner, false)?,
            special_lookalikes: Lookalikes::new(&inner, true)?,
            inner,
            table,
        })
    }

    pub fn token_to_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// Whether `id` steers the model and never is text (`added.rs` has the rule).
    pub fn is_control(&self, id: u32) -> bool {
        self.added.is_control(id)
    }

    pub fn encode(&self, text: &str, options: EncodeOptions) -> Result<Vec<u32>, Error> {
        if options.parse_special && options.barriers.is_empty() {
            let encoding = self.inner.encode_fast(text, options.add_special)?;
            return Ok(encoding.get_ids().to_vec());
        }
        let plain = match options.parse_special {
            true => Plain::WithBarrier(options.barriers),
            false => Plain::All,
        };
        let mut pieces = self.added.extract(&self.inner, text, &plain)?;
        if let Some(pre_tokenizer) = self.inner.get_pre_tokenizer() {
            pre_tokenizer.pre_tokenize(&mut pieces)?;
        }
        let encoding = self.encode_pieces(pieces)?;
        let encoding = self.inner.post_process(encoding, None, options.add_special)?;
        Ok(encoding.get_ids().to_vec())
    }

    fn encode_pieces(&self, mut pieces: PreTokenizedString) -> Result<Encoding, Error> {
        pieces.tokenize(|piece| self.model_tokens(piece.get()))?;
        pieces.into_encoding(None, 0, OffsetType::None)
    }

    /// The model's own tokens of a word. Some models (Unigram, WordLevel, BPE that looks whole
    /// words up first) know control tokens as words: such a word is cut after the first character
    /// of each, so that it is spelt out instead.
    fn model_tokens(&self, word: &str) -> Result<Vec<Token>, Error> {
        let tokens = self.inner.get_model().tokenize(word)?;
        let mut cuts = Vec::new();
        for token in &tokens {
            let text = word.get(token.offsets.0..token.offsets.1);
            if self.added.is_lookalike(token.id, text) {
                let first = text.and_then(|text| text.chars().next());
                cuts.push(token.offsets.0 + first.map_or(0, char::len_utf8));
            }
        }
        cuts.retain(|&cut| 0 < cut && cut < word.len());
        if cuts.is_empty() {
            return Ok(tokens);
        }
        let mut spelt = Vec::new();
        let mut done = 0;
        for cut in cuts.into_iter().chain([word.len()]) {
            spelt.extend(self.inner.get_model().tokenize(&word[done..cut])?);
            done = cut;
        }
        Ok(spelt)
    }
}
