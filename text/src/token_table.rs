//! The bytes and the kind of every token id, and how a token's text becomes bytes.
use std::collections::HashMap;

use tokenizers::{DecoderWrapper, Tokenizer};

const MAX_TOKEN_ID: u32 = 4_000_000;

/// The values of `tt_token_kind` in tandem_text.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Kind {
    Normal = 0,
    /// Added beside the model's vocabulary, and shown: `<think>`, runs of blanks.
    Added = 1,
    /// Added and special: skipped when text is made for people.
    Special = 2,
    /// An id below the largest that no token has.
    Hole = 3,
}

/// What a tokenizer's decoder chain amounts to.
#[derive(Clone, Default)]
struct Decoding {
    byte_level: bool,
    byte_fallback: bool,
    /// U+2581 stands for a blank.
    metaspace: bool,
    /// Blanks dropped at the start of a text, where the encoder had put them.
    strip_start: usize,
}

/// Flat table over all ids in `[0, len)`.
pub struct TokenTable {
    flat: Vec<u8>,
    offsets: Vec<u32>,
    kinds: Vec<Kind>,
    strip_start: usize,
}

/// GPT-2's alphabet: each byte has a printable stand-in.
fn byte_alphabet() -> HashMap<char, u8> {
    let mut map = HashMap::new();
    let mut next = 0x100u32;
    for byte in 0..=255u8 {
        let c = byte as char;
        if matches!(c, '!'..='~' | '\u{A1}'..='\u{AC}' | '\u{AE}'..='\u{FF}') {
            map.insert(c, byte);
        } else {
            map.extend(char::from_u32(next).map(|c| (c, byte)));
            next += 1;
        }
    }
    map
}

fn describe(decoder: &DecoderWrapper, into: &mut Decoding) -> Result<(), String> {
    match decoder {
        DecoderWrapper::ByteLevel(_) => into.byte_level = true,
        DecoderWrapper::ByteFallback(_) => into.byte_fallback = true,
        DecoderWrapper::Fuse(_) => {}
        DecoderWrapper::Metaspace(metaspace) => {
            into.metaspace = true;
            let never = tokenizers::pre_tokenizers::metaspace::PrependScheme::Never;
            into.strip_start = usize::from(metaspace.prepend_scheme != never);
        }
        DecoderWrapper::Strip(strip) if strip.content == ' ' && strip.stop == 0 => {
            into.strip_start = strip.start;
        }
        DecoderWrapper::Replace(replace) if replace.content == " " => into.metaspace = true,
        DecoderWrapper::Sequence(sequence) => {
            for part in sequence.get_decoders() {
                describe(part, into)?;
            }
        }
        _ => {
            return Err("its decoder is not one of ByteLevel, ByteFallback, Metaspace, Replace to \
                        a blank, Strip of leading blanks, Fuse"
                .into())
        }
    }
    Ok(())
}

impl Decoding {
    fn of(tokenizer: &Tokenizer) -> Result<Self, String> {
        let mut decoding = Decoding::default();
        if let Some(decoder) = tokenizer.get_decoder() {
            describe(decoder, &mut decoding)?;
        }
        Ok(decoding)
    }

    fn bytes(&self, token: &str, alphabet: &HashMap<char, u8>) -> Vec<u8> {
        if self.byte_level {
            let mapped: Option<Vec<u8>> =
                token.chars().map(|c| alphabet.get(&c).copied()).collect();
            return mapped.unwrap_or_else(|| token.as_bytes().to_vec());
        }
        let hex = token.strip_prefix("<0x").and_then(|t| t.strip_suffix('>'));
        if let (true, Some(hex)) = (self.byte_fallback, hex.filter(|h| h.len() == 2)) {
            if let Ok(byte) = u8::from_str_radix(hex, 16) {
                return vec![byte];
            }
        }
        if self.metaspace {
            token.replace('\u{2581}', " ").into_bytes()
        } else {
            token.as_bytes().to_vec()
        }
    }
}

impl TokenTable {
    pub fn build(tokenizer: &Tokenizer) -> Result<Self, String> {
        let decoding = Decoding::of(tokenizer)?;
        let vocab = tokenizer.get_vocab(true);
        let largest = vocab.values().copied().max().ok_or("its vocabulary is empty")?;
        if largest > MAX_TOKEN_ID {
            return Err(format!("it has token id {largest}; the limit is {MAX_TOKEN_ID}"));
        }
        let size = largest as usize + 1; // ids may have holes: the count would be too small
        let mut words: Vec<Vec<u8>> = vec![Vec::new(); size];
        let mut kinds = vec![Kind::Hole; size];
        let alphabet = byte_alphabet();
        let added = tokenizer.get_added_tokens_decoder();
        for (word, id) in vocab {
            let special = added.get(&id).map(|token| token.special);
            kinds[id as usize] = match special {
                None => Kind::Normal,
                Some(false) => Kind::Added,
                Some(true) => Kind::Special,
            };
            let text = added.get(&id).map_or(word.as_str(), |token| token.content.as_str());
            words[id as usize] = decoding.bytes(text, &alphabet);
        }
        let mut flat = Vec::with_capacity(words.iter().map(Vec::len).sum());
        let mut offsets = Vec::with_capacity(size + 1);
        offsets.push(0);
        for word in words {
            flat.extend_from_slice(&word);
            offsets.push(u32::try_from(flat.len()).map_err(|_| "its tokens exceed 4 GiB")?);
        }
        Ok(TokenTable { flat, offsets, kinds, strip_start: decoding.strip_start })
    }

    pub fn len(&self) -> usize {
        self.kinds.len()
    }

    /// Empty for a hole or an id out of range.
    pub fn bytes(&self, id: u32) -> &[u8] {
        let i = id as usize;
        if i >= self.len() {
            return &[];
        }
        &self.flat[self.offsets[i] as usize..self.offsets[i + 1] as usize]
    }

    pub fn kind(&self, id: u32) -> Kind {
        self.kinds.get(id as usize).copied().unwrap_or(Kind::Hole)
    }

    /// How many blanks the decoder drops at the start of a text.
    pub fn strip_start(&self) -> usize {
        self.strip_start
    }
}
