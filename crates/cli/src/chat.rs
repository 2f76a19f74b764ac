//! `hexapla chat`

use std::io::{IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hexapla::config::ComputeType;
use hexapla::error::{Error, Result};
use hexapla::files::write_atomically;
use hexapla::generate::generator::Prompt;
use hexapla::generate::language_model::{Finish, GenerateOptions, LanguageModel};
use hexapla::generate::running::Model as _;

use hexapla::text::chat::{ChatTemplate, Message, Values};

use crate::choice::ChoiceFlags;
use crate::console::{Batches, broken, say};
use crate::model::decided;
use crate::signals::Caught;

/// The signal of Ctrl-C.
const SIGINT: usize = signal_hook::consts::SIGINT as usize;
/// Longest file of a conversation.
const MAX_BYTES: u64 = 64 << 20;
const SYSTEM: &str = "system";
const USER: &str = "user";
const ASSISTANT: &str = "assistant";
/// Tokens that an answer has room for before old messages are left out, where nothing says how many.
const ROOM: usize = 256;
/// Keys and values of what was read before are kept in so much memory.
const PREFIX_BYTES: usize = 1 << 30;

const HELP: &str = "\
/system TEXT  what the model is told before all else; alone: nothing
/retry        another answer to the last message
/undo         forget the last message and its answer
/reset        begin anew, with the same system text
/save FILE    write the conversation to a file
/help         this list
/exit         end; so does the end of the input
A line that ends in \\ goes on in the next. Ctrl-C ends an answer that has begun.";

#[derive(Debug, clap::Args)]
#[command(allow_negative_numbers = true)]
pub(crate) struct ChatArgs {
    /// Messages to the model, answered one after the other; without them each line of standard input is one.
    text: Vec<String>,
    /// Model folder, or GGUF file, of a decoder alone that was trained on conversations.
    #[arg(long, short)]
    model: PathBuf,
    /// What the model is told before all else.
    #[arg(long)]
    system: Option<String>,
    /// Go on with the conversation in this file: a JSON array of messages, each with `role` and `content`.
    #[arg(long)]
    load: Option<PathBuf>,
    /// Write the conversation to this file after each answer.
    #[arg(long)]
    save: Option<PathBuf>,
    /// A value that the chat template knows, as NAME=JSON, such as enable_thinking=false; may be given several times.
    #[arg(long, value_name = "NAME=JSON")]
    template_value: Vec<String>,
    /// Leave out the oldest messages where the model has no room for all of them.
    #[arg(long)]
    drop_oldest: bool,
    #[command(flatten)]
    choice: ChoiceFlags,
    /// End an answer before this text; may be given several times.
    #[arg(long)]
    stop: Vec<String>,
    /// Arithmetic: default (what the folder is stored in), float32, bf16, int8, int4 or auto.
    #[arg(long, default_value = "default")]
    compute_type: ComputeType,
}

pub(crate) fn run(args: ChatArgs) -> Result<()> {
    if args.choice.n != 1 {
        return Err(Error::settings("a flag is out of range")
            .at("--n")
            .expected("1: a conversation goes on with one answer")
            .found(args.choice.n.to_string())
            .hint("`hexapla generate --json-lines` takes `messages` and gives several"));
    }
    let values = read_values(&args.template_value)?;
    let mut messages = match &args.load {
        Some(path) => read_messages(path)?,
        None => Vec::new(),
    };
    if let Some(system) = &args.system {
        set_system(&mut messages, system);
    }
    let model = LanguageModel::open(args.model.as_path(), decided(args.compute_type))?;
    let model = model.with_prefix_cache(PREFIX_BYTES);
    let mut chat = Chat {
        options: args.choice.options(&model, &args.stop)?,
        template: model.chat_template()?,
        model: &model,
        values,
        messages,
        answers: 0,
        drop_oldest: args.drop_oldest,
        save: args.save.as_deref(),
    };
    // Better refused now than after an answer; what is there already stays until then.
    if let Some(path) = args.save.as_deref().filter(|path| !path.exists()) {
        write_messages(path, &chat.messages)?;
    }
    // A loaded conversation may wait for an answer.
    if chat.messages.last().is_some_and(|last| last.role == USER) {
        let answer = chat.answer()?;
        chat.keep(answer)?;
    }
    if !args.text.is_empty() {
        return args.text.iter().try_for_each(|text| chat.say(text));
    }
    chat.converse()
}

/// A conversation that goes on.
struct Chat<'a> {
    model: &'a LanguageModel,
    template: ChatTemplate,
    values: Values,
    options: GenerateOptions,
    messages: Vec<Message>,
    /// Answers so far, those taken back among them: each is drawn from a random stream of its own.
    answers: u64,
    drop_oldest: bool,
    save: Option<&'a Path>,
}

impl Chat<'_> {
    /// Answers lines of standard input, until they end.
    fn converse(&mut self) -> Result<()> {
        let is_terminal = std::io::stdin().is_terminal();
        if is_terminal {
            say("/help lists what can be said to the program itself.");
        }
        let mut lines = Batches::open(Path::new("-"))?;
        loop {
            if is_terminal {
                let mut err = std::io::stderr();
                let _ = write!(err, "> ").and_then(|()| err.flush());
            }
            let Some(line) = whole_line(&mut lines)? else {
                return Ok(());
            };
            let done = match line.strip_prefix('/') {
                Some(command) => match self.obey(command) {
                    Ok(true) => return Ok(()),
                    Ok(false) => Ok(()),
                    Err(e) => Err(e),
                },
                None if line.trim().is_empty() => Ok(()),
                None => self.say(&line),
            };
            match done {
                // Somebody is there who can say something else.
                Err(e) if is_terminal => say(format_args!("error: {e}")),
                done => done?,
            }
        }
    }

    /// Does what a line says to the program itself; whether that is to end.
    fn obey(&mut self, command: &str) -> Result<bool> {
        let (name, rest) = command.split_once(' ').unwrap_or((command, ""));
        let rest = rest.trim();
        match (name, rest.is_empty()) {
            ("exit" | "quit", true) => return Ok(true),
            ("help", true) => say(HELP),
            ("reset", true) => self.messages.retain(|message| message.role == SYSTEM),
            ("system", _) => set_system(&mut self.messages, rest),
            ("save", false) => write_messages(Path::new(rest), &self.messages)?,
            ("undo", true) => self.take_back(|role| role == USER)?,
            ("retry", true) => {
                if self.options.search.sampling.is_none() {
                    say("(the likeliest answer again: --temperature 0.8 gives others)");
                }
                let before = self.messages.clone();
                self.take_back(|role| role == ASSISTANT)?;
                match self.answer() {
                    Ok(answer) => self.keep(answer)?,
                    Err(e) => {
                        self.messages = before;
                        return Err(e);
                    }
                }
            }
            _ => {
                return Err(Error::input("there is no such command")
                    .at("a line that begins with /")
                    .expected("/system, /retry, /undo, /reset, /save FILE, /help or /exit")
                    .found(format!("`/{command}`"))
                    .hint("put a blank before the / where it is a message"));
            }
        }
        Ok(false)
    }

    /// Removes the last message whose role is so, and all behind it.
    fn take_back(&mut self, is: impl Fn(&str) -> bool) -> Result<()> {
        let last = self.messages.iter().rposition(|message| is(&message.role));
        let last = last.ok_or_else(|| {
            Error::input("there is nothing to take back")
                .at("the conversation")
                .expected("a message and its answer")
                .found("none")
                .hint("say something first")
        })?;
        self.messages.truncate(last);
        Ok(())
    }

    /// Says `text` to the model, and prints its answer. What is not answered is not kept.
    fn say(&mut self, text: &str) -> Result<()> {
        self.messages.push(Message::new(USER, text));
        match self.answer() {
            Ok(answer) => self.keep(answer),
            Err(e) => {
                self.messages.pop();
                Err(e)
            }
        }
    }

    /// Keeps an answer, on the disk too where that is asked for.
    fn keep(&mut self, answer: Answer) -> Result<()> {
        self.messages.push(Message::new(ASSISTANT, answer.text));
        if let Some(path) = self.save {
            write_messages(path, &self.messages)?;
        }
        // Whoever cannot say something else meanwhile wanted all to end.
        match answer.signal {
            0 => Ok(()),
            SIGINT if std::io::stdin().is_terminal() => Ok(()),
            signal => std::process::exit(128 + signal as i32),
        }
    }

    /// Prints the answer to the conversation so far as it comes.
    fn answer(&mut self) -> Result<Answer> {
        let prompt = self.prompt()?;
        self.answers += 1;
        let interrupted = Arc::new(AtomicUsize::new(0));
        let caught = Caught::new(&interrupted)?;
        let mut out = std::io::stdout();
        let found = self.model.stream(&prompt, &self.options, |_, text| {
            write!(out, "{text}").map_err(broken)?;
            out.flush().map_err(broken)?;
            Ok(interrupted.load(Ordering::SeqCst) == 0)
        })?;
        drop(caught);
        let mut out = std::io::stdout();
        writeln!(out).and_then(|()| out.flush()).map_err(broken)?;
        let answer = found.into_iter().next();
        let answer = answer.ok_or_else(|| Error::internal("there is no answer"))?;
        let signal = interrupted.load(Ordering::SeqCst);
        if signal != 0 {
            say("(the answer was ended before its end)");
        } else if answer.finish == Finish::Length {
            let most = answer.ids.len();
            say(format_args!(
                "(the answer is cut after {most} tokens, the most that there may be)"
            ));
        }
        Ok(Answer {
            text: answer.text,
            signal,
        })
    }

    /// The conversation as the model reads it, without its oldest messages where there is no room for them and that is asked for.
    fn prompt(&self) -> Result<Prompt> {
        let prompt = |messages: &[Message]| {
            let said = (messages, &self.values);
            self.model
                .conversation(&self.template, said, self.answers, &self.options)
        };
        let generator = self.model.generator();
        let whole = prompt(&self.messages)?;
        let checked = generator.check(&whole);
        // An answer wants some room where nothing says how much.
        let wanted = ROOM.min(generator.max_tokens() / 4).max(1);
        let is_tight = self.options.max_new_tokens.is_none() && whole.max_new_tokens < wanted;
        if !self.drop_oldest {
            let hint = "begin anew (/reset), or leave out old messages: --drop-oldest";
            return match self.messages.len() {
                0..=1 => checked.map(|()| whole),
                _ => checked.map(|()| whole).map_err(|e| e.hint(hint)),
            };
        }
        if checked.is_ok() && !is_tight {
            return Ok(whole);
        }
        // Turns begin with what the user says; the more of them are left out the shorter is the rest.
        let users = self.messages.iter().enumerate();
        let users = users.filter(|(_, message)| message.role == USER);
        let starts: Vec<usize> = users.map(|(number, _)| number).collect();
        let without = |turns: usize| -> Result<Option<Prompt>> {
            let mut left = self.messages.clone();
            left.drain(starts[0]..starts[turns]);
            let prompt = prompt(&left)?;
            let has_room = self.options.max_new_tokens.is_some() || prompt.max_new_tokens >= wanted;
            Ok(Some(prompt).filter(|prompt| has_room && generator.check(prompt).is_ok()))
        };
        let (mut too_few, mut enough, mut found) = (0, starts.len(), None);
        while too_few + 1 < enough {
            let turns = usize::midpoint(too_few, enough);
            match without(turns)? {
                Some(prompt) => (enough, found) = (turns, Some(prompt)),
                None => too_few = turns,
            }
        }
        match found {
            Some(prompt) => {
                say(format_args!(
                    "(the oldest messages are left out of what the model reads, as it has no room for them: {enough} of {})",
                    starts.len()
                ));
                Ok(prompt)
            }
            None => checked.map(|()| whole),
        }
    }
}

/// An answer, and the signal that ended it, or 0.
struct Answer {
    text: String,
    signal: usize,
}

/// Puts a system text first, in place of the one that stands there; an empty one removes it.
fn set_system(messages: &mut Vec<Message>, text: &str) {
    if messages.first().is_some_and(|first| first.role == SYSTEM) {
        messages.remove(0);
    }
    if !text.is_empty() {
        messages.insert(0, Message::new(SYSTEM, text));
    }
}

/// A line with those that it goes on in; nothing at the end.
fn whole_line(lines: &mut Batches) -> Result<Option<String>> {
    let mut whole: Option<String> = None;
    loop {
        let (mut some, read) = lines.next(1);
        read?;
        let Some(line) = some.pop() else {
            return Ok(whole);
        };
        let (part, goes_on) = match line.strip_suffix('\\') {
            Some(part) => (part, true),
            None => (line.as_str(), false),
        };
        let text = whole.get_or_insert_default();
        text.push_str(part);
        if !goes_on {
            return Ok(whole);
        }
        text.push('\n');
    }
}

fn read_values(flags: &[String]) -> Result<Values> {
    let read = |flag: &String| {
        let wrong = |found: String| {
            Error::settings("a flag is out of range")
                .at("--template-value")
                .expected("NAME=JSON, such as enable_thinking=false; the messages are what is said")
                .found(found)
                .hint("a text needs quotation marks: 'tone=\"brief\"'")
        };
        let own = ["", "messages", "add_generation_prompt"];
        let named = flag.split_once('=').filter(|(name, _)| !own.contains(name));
        let (name, value) = named.ok_or_else(|| wrong(format!("`{flag}`")))?;
        let value = serde_json::from_str(value).map_err(|e| wrong(format!("`{flag}`: {e}")))?;
        Ok((name.to_string(), value))
    };
    flags.iter().map(read).collect()
}

fn read_messages(path: &Path) -> Result<Vec<Message>> {
    let failed = |e: std::io::Error| Error::io("cannot read the conversation", path, &e);
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(MAX_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    let read = match bytes.len() as u64 > MAX_BYTES {
        true => Err(format!("more than {MAX_BYTES} bytes")),
        false => serde_json::from_slice(&bytes).map_err(|e| e.to_string()),
    };
    read.map_err(|found| {
        Error::input("the conversation cannot be read")
            .at(path.display().to_string())
            .expected("a JSON array of messages, each with `role` and `content`")
            .found(found)
            .hint("`hexapla chat --save` writes such a file")
    })
}

fn write_messages(path: &Path, messages: &[Message]) -> Result<()> {
    write_atomically(path, |writer| {
        serde_json::to_writer_pretty(&mut *writer, messages)?;
        writer.write_all(b"\n")
    })
}
