//! Chat templates: minijinja set up the way transformers sets up Jinja, within limits.
use std::fmt::Write as _;
use std::io;
use std::time::{Duration, Instant};

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, ErrorKind};
use serde_json::{Map, Value};

use crate::ffi::{fail, Code, Fail, Outcome};
use crate::tokenizer::Tokenizer;
use crate::{filters, marks, python};

const NAME: &str = "chat_template";
const MAX_SOURCE_BYTES: usize = 1 << 20;
const MAX_OUTPUT_BYTES: usize = 8 << 20;
const MAX_TIME: Duration = Duration::from_millis(200);
const MAX_DEPTH: usize = 64;
/// Bounds both instructions and the bytes that they make (64 a unit), so that a template that
/// writes nothing ends in about MAX_TIME too, and none can take more than a quarter of a GB.
const FUEL: u64 = 4_000_000;

pub struct ChatTemplate {
    env: Environment<'static>,
    noncharacters: u32,
}

/// What a template is rendered with. The first four are a caller's; special_tokens is the model's.
pub struct Request {
    pub messages: Vec<Value>,
    pub tools: Value,
    pub documents: Value,
    pub variables: Map<String, Value>,
    pub special_tokens: Map<String, Value>,
    pub add_generation_prompt: bool,
    pub now_unix_s: i64,
    pub utc_offset_s: i32,
}

pub struct Rendered {
    pub text: String,
    pub barriers: Vec<u32>,
}

impl ChatTemplate {
    pub fn compile(source: &str) -> Outcome<Self> {
        if source.len() > MAX_SOURCE_BYTES {
            return fail(Code::Limit, format!("the template exceeds {MAX_SOURCE_BYTES} bytes"));
        }
        let mut env = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        env.set_syntax(syntax.map_err(|e| Fail { code: Code::Parse, message: e.to_string() })?);
        env.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        env.set_recursion_limit(MAX_DEPTH);
        env.set_fuel(Some(FUEL));
        filters::add_to(&mut env);
        if let Err(e) = env.add_template_owned(NAME, without_generation_tags(source)) {
            return fail(Code::Parse, format!("{e:#}"));
        }
        Ok(ChatTemplate { env, noncharacters: marks::noncharacters(source) })
    }

    /// Renders; the barriers in the callers' text are those of `tokenizer`.
    pub fn render(&self, mut request: Request, tokenizer: &Tokenizer) -> Outcome<Rendered> {
        check_names(&request)?;
        let mark = self.mark_lookalikes(&mut request, tokenizer)?;
        let (text, barriers) = marks::take_out(self.render_context(context(request))?, mark);
        Ok(Rendered { text, barriers })
    }

    fn mark_lookalikes(&self, request: &mut Request, tokenizer: &Tokenizer) -> Outcome<char> {
        let messages = request.messages.iter_mut().map(|message| {
            let by_model = message.get("role").and_then(Value::as_str) == Some("assistant");
            (message, if by_model { &tokenizer.special_lookalikes } else { &tokenizer.lookalikes })
        });
        let others = [&mut request.tools, &mut request.documents]
            .into_iter()
            .chain(request.variables.values_mut())
            .map(|value| (value, &tokenizer.lookalikes));
        let mut callers: Vec<_> = messages.chain(others).collect();
        let used = callers.iter().map(|(value, _)| marks::noncharacters_in(value));
        let Some(mark) = marks::pick(used.fold(self.noncharacters, |all, used| all | used)) else {
            return fail(Code::Argument, "the text uses each noncharacter U+FDD0 to U+FDEF");
        };
        for (value, lookalikes) in &mut callers {
            marks::insert(value, lookalikes, mark);
        }
        Ok(mark)
    }

    fn render_context(&self, context: Map<String, Value>) -> Outcome<String> {
        let template = self.env.get_template(NAME).map_err(|e| failure(&e))?;
        let mut out = BoundedOutput { bytes: Vec::new(), deadline: Instant::now() + MAX_TIME };
        let context = python::from_json(Value::Object(context));
        template.render_captured_to(context, &mut out).map_err(|e| failure(&e))?;
        String::from_utf8(out.bytes)
            .map_err(|_| Fail { code: Code::Template, message: "it wrote no UTF-8".into() })
    }
}

/// Takes the output of a template until it is too long or too late.
struct BoundedOutput {
    bytes: Vec<u8>,
    deadline: Instant,
}

impl io::Write for BoundedOutput {
    fn write(&mut self, part: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + part.len() > MAX_OUTPUT_BYTES {
            return Err(io::Error::other(format!("its output exceeds {MAX_OUTPUT_BYTES} bytes")));
        }
        if Instant::now() > self.deadline {
            return Err(io::Error::other(format!("it ran longer than {MAX_TIME:?}")));
        }
        self.bytes.extend_from_slice(part);
        Ok(part.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn check_names(request: &Request) -> Outcome<()> {
    const OURS: [&str; 6] = [
        "messages",
        "tools",
        "documents",
        "add_generation_prompt",
        filters::NOW,
        filters::UTC_OFFSET,
    ];
    let named = request.variables.keys().chain(request.special_tokens.keys());
    for name in named {
        if OURS.contains(&name.as_str()) {
            return fail(Code::Argument, format!("template variable \"{name}\" is reserved"));
        }
    }
    Ok(())
}

/// What the template sees. Absent tools and documents are none, as transformers passes them.
fn context(request: Request) -> Map<String, Value> {
    let mut context = request.special_tokens;
    context.extend(request.variables);
    let messages = request.messages.into_iter().map(with_both_reasoning_names).collect();
    context.insert("messages".into(), Value::Array(messages));
    context.insert("tools".into(), request.tools);
    context.insert("documents".into(), request.documents);
    context.insert("add_generation_prompt".into(), request.add_generation_prompt.into());
    context.insert(filters::NOW.into(), request.now_unix_s.into());
    context.insert(filters::UTC_OFFSET.into(), request.utc_offset_s.into());
    context
}

/// Templates read a model's reasoning as `reasoning_content` or as `thinking`: one stands for both.
fn with_both_reasoning_names(mut message: Value) -> Value {
    if let Some(fields) = message.as_object_mut() {
        for (from, to) in [("reasoning_content", "thinking"), ("thinking", "reasoning_content")] {
            if let (Some(text), false) = (fields.get(from).cloned(), fields.contains_key(to)) {
                fields.insert(to.into(), text);
            }
        }
    }
    message
}

fn failure(error: &minijinja::Error) -> Fail {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(e) = cause {
        let text = e.to_string();
        let mut parts = text.split(filters::RAISED);
        if let (Some(_), Some(words)) = (parts.next(), parts.next()) {
            return Fail { code: Code::Raised, message: words.to_owned() };
        }
        if e.is::<io::Error>() {
            return Fail { code: Code::Limit, message: text };
        }
        cause = e.source();
    }
    if error.kind() == ErrorKind::OutOfFuel {
        let message = "it needs more steps or memory than a template may take".to_owned();
        return Fail { code: Code::Limit, message };
    }
    Fail { code: Code::Template, message: format!("{error:#}") }
}

/// `{% generation %}` marks what a model wrote, for training; minijinja has no such tag. It becomes
/// `{% with %}`, with its whitespace control kept.
fn without_generation_tags(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let Some(length) = rest[start..].find("%}").map(|at| at + 2) else { break };
        out.push_str(&rest[..start]);
        let tag = &rest[start..start + length];
        let inner = &tag[2..length - 2];
        let words = inner.trim_start_matches(['-', '+']).trim_end_matches(['-', '+']);
        let replacement = match words.trim() {
            "generation" => Some("with"),
            "endgeneration" => Some("endwith"),
            _ => None,
        };
        match replacement {
            Some(word) => {
                let before = &inner[..inner.len() - inner.trim_start_matches(['-', '+']).len()];
                let after = &inner[inner.trim_end_matches(['-', '+']).len()..];
                let _ = write!(out, "{{%{before} {word} {after}%}}");
            }
            None => out.push_str(tag),
        }
        rest = &rest[start + length..];
    }
    out.push_str(rest);
    out
}
