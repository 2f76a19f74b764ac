//! HTML: what stands between tags is translated; tags inside of a sentence follow the words that they stood around; every other byte
//! stays as it is.

use std::ops::Range;

use html5gum::{DefaultEmitter, Token, Tokenizer};

/// Elements that a sentence may have inside.
const INLINE: [&str; 40] = [
    "!", "a", "abbr", "acronym", "b", "bdi", "bdo", "big", "bx", "cite", "code", "data", "del",
    "dfn", "em", "ex", "font", "g", "i", "img", "ins", "kbd", "label", "mark", "ph", "q", "s",
    "samp", "small", "span", "strike", "strong", "sub", "sup", "time", "tt", "u", "var", "wbr",
    "x",
];
/// Elements whose content is no text to translate.
const OPAQUE: [&str; 14] = [
    "code", "iframe", "kbd", "math", "noscript", "object", "pre", "samp", "script", "style", "svg",
    "template", "textarea", "var",
];
/// Elements that have no end.
const VOID: [&str; 16] = [
    "area", "base", "br", "bx", "col", "embed", "ex", "hr", "img", "input", "link", "meta",
    "source", "track", "wbr", "x",
];

/// Elements inside each other that are held together.
const DEPTH: usize = 64;
/// Tags of a sentence that follow their words; where there are more, all stand where they stood, in proportion.
const TAGS: usize = 500;

/// A document, cut into what is translated and what is not.
#[derive(Debug)]
pub(crate) struct Document<'a> {
    html: &'a str,
    pieces: Vec<Piece>,
}

#[derive(Debug)]
enum Piece {
    /// Bytes that stay as they are.
    Verbatim(Range<usize>),
    Sentence(Sentence),
}

/// What stands between two tags that end a sentence.
#[derive(Debug, Default)]
struct Sentence {
    /// Its text, without tags, white space gathered and none around it.
    text: String,
    /// Its tags in their order, and where each stands in the text, in bytes.
    tags: Vec<(usize, Tag)>,
    /// White space around it.
    around: (String, String),
}

#[derive(Debug, Clone)]
struct Tag {
    /// In the document.
    range: Range<usize>,
    name: String,
    kind: Kind,
    /// Whether white space follows it, of which the text has that before it.
    is_spaced: bool,
}

impl Tag {
    fn new(range: Range<usize>, name: String, kind: Kind) -> Self {
        Tag {
            range,
            name,
            kind,
            is_spaced: false,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Start,
    End,
    /// A comment, an element without an end, or one that is not translated, whole.
    Alone,
}

/// What a document is made of.
#[derive(Debug)]
enum Atom {
    /// Its bytes, and what they stand for.
    Text(Range<usize>, String),
    Tag(Tag),
}

impl Atom {
    fn range(&self) -> &Range<usize> {
        match self {
            Atom::Text(range, _) => range,
            Atom::Tag(tag) => &tag.range,
        }
    }

    /// Whether a sentence may go on behind it.
    fn is_inline(&self) -> bool {
        match self {
            Atom::Text(..) => true,
            Atom::Tag(tag) => INLINE.contains(&tag.name.as_str()),
        }
    }
}

fn atoms(html: &str) -> Vec<Atom> {
    let mut emitter = DefaultEmitter::<usize>::new_with_span();
    emitter.naively_switch_states(true);
    let mut atoms = Vec::new();
    // An element that is not translated: its name, how many of that name are open, and where it begins.
    let mut opaque: Option<(String, usize, usize)> = None;
    for Ok(token) in Tokenizer::new_with_emitter(html, emitter) {
        let (name, range, kind, is_opaque) = match token {
            Token::StartTag(tag) => {
                let name = String::from_utf8_lossy(&tag.name).into_owned();
                let no = tag.attributes.get(b"translate".as_slice());
                let is_off = no.is_some_and(|value| value.value.eq_ignore_ascii_case(b"no"));
                let is_alone = tag.self_closing || VOID.contains(&name.as_str());
                let is_opaque = !is_alone && (is_off || OPAQUE.contains(&name.as_str()));
                let kind = if is_alone { Kind::Alone } else { Kind::Start };
                (name, tag.span.start..tag.span.end, kind, is_opaque)
            }
            Token::EndTag(tag) => {
                let name = String::from_utf8_lossy(&tag.name).into_owned();
                (name, tag.span.start..tag.span.end, Kind::End, false)
            }
            Token::Comment(comment) => {
                let range = comment.span.start..comment.span.end;
                ("!".to_string(), range, Kind::Alone, false)
            }
            Token::Doctype(doctype) => {
                let range = doctype.span.start..doctype.span.end;
                ("!doctype".to_string(), range, Kind::Alone, false)
            }
            Token::String(text) => {
                if opaque.is_none() {
                    let value = String::from_utf8_lossy(&text.value).into_owned();
                    atoms.push(Atom::Text(text.span.start..text.span.end, value));
                }
                continue;
            }
            Token::Error(_) => continue,
        };
        match (&mut opaque, kind) {
            (None, _) if is_opaque => opaque = Some((name, 1, range.start)),
            (None, _) => atoms.push(Atom::Tag(Tag::new(range, name, kind))),
            (Some((inside, depth, _)), Kind::Start) => *depth += usize::from(*inside == name),
            (Some((inside, depth, start)), Kind::End) if *inside == name => {
                *depth -= 1;
                if *depth == 0 {
                    let range = *start..range.end;
                    atoms.push(Atom::Tag(Tag::new(range, name, Kind::Alone)));
                    opaque = None;
                }
            }
            (Some(_), _) => (),
        }
    }
    if let Some((name, _, start)) = opaque {
        let range = start..html.len();
        atoms.push(Atom::Tag(Tag::new(range, name, Kind::Alone)));
    }
    atoms
}

impl<'a> Document<'a> {
    /// Cuts a document.
    pub(crate) fn new(html: &'a str) -> Self {
        let atoms = atoms(html);
        let mut pieces = Vec::new();
        // Up to where the document is in `pieces`.
        let mut done = 0;
        for run in atoms.chunk_by(|a, b| a.is_inline() && b.is_inline()) {
            let (Some(first), Some(last)) = (run.first(), run.last()) else {
                continue;
            };
            let sentence = Sentence::new(run);
            let (start, end) = (first.range().start, last.range().end);
            if first.is_inline() && sentence.text.chars().any(char::is_alphanumeric) {
                pieces.push(Piece::Verbatim(done..start));
                pieces.push(Piece::Sentence(sentence));
                done = end;
            }
        }
        pieces.push(Piece::Verbatim(done..html.len()));
        Document { html, pieces }
    }

    /// The texts to translate.
    pub(crate) fn texts(&self) -> impl Iterator<Item = &str> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Sentence(sentence) => Some(sentence.text.as_str()),
            Piece::Verbatim(_) => None,
        })
    }

    /// The document with `translations` in the place of its texts.
    pub(crate) fn with<'b>(&self, translations: impl IntoIterator<Item = Linked<'b>>) -> String {
        let mut translations = translations.into_iter();
        let mut out = String::with_capacity(self.html.len() * 2);
        for piece in &self.pieces {
            match piece {
                Piece::Verbatim(range) => out.push_str(&self.html[range.clone()]),
                Piece::Sentence(sentence) => {
                    if let Some(linked) = translations.next() {
                        sentence.write(self.html, &linked, &mut out);
                    }
                }
            }
        }
        out
    }
}

/// A translation, and which bytes of the source its bytes stand for.
#[derive(Debug, Clone)]
pub(crate) struct Linked<'a> {
    pub(crate) text: &'a str,
    pub(crate) links: Vec<Link>,
}

/// Bytes of a source, and bytes of its translation that stand for them.
pub(crate) type Link = (Range<usize>, Range<usize>);

/// An element, or a tag alone, inside a sentence.
#[derive(Debug)]
struct Element {
    open: Range<usize>,
    close: Option<Range<usize>>,
    /// As the tag is.
    is_spaced: bool,
    /// Bytes of the source's text; of a tag alone the place where it stands.
    source: Range<usize>,
    inner: Vec<Element>,
}

impl Sentence {
    fn new(run: &[Atom]) -> Self {
        let mut sentence = Sentence::default();
        let mut space = String::new();
        for atom in run {
            match atom {
                Atom::Text(_, text) => {
                    for c in text.chars() {
                        // A space that does not break is one of the text.
                        if c.is_whitespace() && c != '\u{a0}' && c != '\u{202f}' {
                            if let Some((at, tag)) = sentence.tags.last_mut()
                                && tag.kind == Kind::Alone
                                && *at == sentence.text.len()
                                && sentence.text.ends_with(' ')
                            {
                                tag.is_spaced = true;
                            }
                            space.push(c);
                            continue;
                        }
                        if sentence.text.is_empty() {
                            sentence.around.0.push_str(&space);
                        } else if !space.is_empty() && !sentence.text.ends_with(' ') {
                            sentence.text.push(' ');
                        }
                        space.clear();
                        sentence.text.push(c);
                    }
                }
                Atom::Tag(tag) => {
                    // A space before what begins stands before it, one before what ends stands behind it.
                    if tag.kind != Kind::End && !sentence.text.is_empty() && !space.is_empty() {
                        space.clear();
                        sentence.text.push(' ');
                    }
                    sentence.tags.push((sentence.text.len(), tag.clone()));
                }
            }
        }
        let kept = sentence.text.trim_end_matches(' ').len();
        if kept < sentence.text.len() {
            sentence.text.truncate(kept);
            space.insert(0, ' ');
        }
        for (at, _) in &mut sentence.tags {
            *at = (*at).min(kept);
        }
        sentence.around.1 = space;
        sentence
    }

    /// Its elements: what is opened and closed in it. What is only one of them is a tag alone.
    fn elements(&self) -> Vec<Element> {
        let mut open: Vec<(Option<&str>, Element)> = vec![(None, Element::alone(0..0, 0))];
        let alone = |open: &mut Vec<(Option<&str>, Element)>, range: Range<usize>, at| {
            if let Some((_, outer)) = open.last_mut() {
                outer.inner.push(Element::alone(range, at));
            }
        };
        for (at, tag) in &self.tags {
            let range = tag.range.clone();
            match tag.kind {
                Kind::Alone => {
                    if let Some((_, outer)) = open.last_mut() {
                        outer.inner.push(Element {
                            is_spaced: tag.is_spaced,
                            ..Element::alone(range, *at)
                        });
                    }
                }
                // What lies deeper is not held together.
                Kind::Start if open.len() > DEPTH => alone(&mut open, range, *at),
                Kind::Start => open.push((Some(&tag.name), Element::alone(range, *at))),
                Kind::End => {
                    let name = Some(tag.name.as_str());
                    let Some(depth) = open.iter().rposition(|(open, _)| *open == name) else {
                        alone(&mut open, range, *at);
                        continue;
                    };
                    // What is still open inside was never closed.
                    while open.len() > depth + 1 {
                        close_unclosed(&mut open);
                    }
                    if let Some((_, mut element)) = open.pop() {
                        element.close = Some(range);
                        element.source.end = *at;
                        if let Some((_, outer)) = open.last_mut() {
                            outer.inner.push(element);
                        }
                    }
                }
            }
        }
        while open.len() > 1 {
            close_unclosed(&mut open);
        }
        open.pop().map_or_else(Vec::new, |(_, outer)| outer.inner)
    }

    fn write(&self, html: &str, linked: &Linked, out: &mut String) {
        out.push_str(&self.around.0);
        let placed = Placed {
            html,
            source: &self.text,
            linked,
            links: match self.tags.len() <= TAGS {
                true => &linked.links,
                false => &[],
            },
        };
        placed.write(self.elements(), 0..linked.text.len(), out);
        out.push_str(&self.around.1);
    }
}

/// The innermost open element is a tag alone, beside what seemed to be inside it.
fn close_unclosed(open: &mut Vec<(Option<&str>, Element)>) {
    let Some((_, element)) = open.pop() else {
        return;
    };
    if let Some((_, outer)) = open.last_mut() {
        outer
            .inner
            .push(Element::alone(element.open, element.source.start));
        outer.inner.extend(element.inner);
    }
}

impl Element {
    fn alone(open: Range<usize>, at: usize) -> Self {
        Element {
            open,
            close: None,
            is_spaced: false,
            source: at..at,
            inner: Vec::new(),
        }
    }
}

/// Where elements go in a translation.
struct Placed<'a> {
    html: &'a str,
    source: &'a str,
    linked: &'a Linked<'a>,
    links: &'a [Link],
}

impl Placed<'_> {
    /// The bytes of the translation, within `outer`, that an element stands around.
    fn target(&self, element: &Element, outer: &Range<usize>) -> Range<usize> {
        let source = &element.source;
        // What stands around everything, or at an end, stays there.
        if source.start == 0 && source.end == self.source.len() {
            return outer.clone();
        }
        if source.is_empty() && source.start == 0 {
            return outer.start..outer.start;
        }
        if source.is_empty() && source.start == self.source.len() {
            return outer.end..outer.end;
        }
        let inside = |range: &Range<usize>| range.start >= outer.start && range.end <= outer.end;
        let links = self.links.iter().filter(|(_, target)| inside(target));
        if source.is_empty() {
            // Before the first word that stands for what comes behind it.
            let behind = links.filter(|(from, _)| from.start >= source.start);
            let at = behind.min_by_key(|(from, to)| (from.start, to.start));
            let at = at.map_or_else(
                || self.in_proportion(source.start, outer),
                |(_, to)| to.start,
            );
            return at..at;
        }
        let mut found: Option<Range<usize>> = None;
        for (from, to) in links {
            if from.start < source.end && source.start < from.end {
                let all = found.unwrap_or_else(|| to.clone());
                found = Some(all.start.min(to.start)..all.end.max(to.end));
            }
        }
        found.unwrap_or_else(|| {
            let at = self.in_proportion(source.start, outer);
            at..at
        })
    }

    /// The beginning of the word that is about as far in the translation as a place is in the source.
    fn in_proportion(&self, at: usize, outer: &Range<usize>) -> usize {
        let text = self.linked.text;
        let about = text.len() * at / self.source.len().max(1);
        let about = about.clamp(outer.start, outer.end);
        let about = text.ceil_char_boundary(about);
        let space = text[about..].find(' ');
        space.map_or(outer.end, |i| (about + i + 1).min(outer.end))
    }

    /// Writes the bytes `range` of the translation with `elements` in it.
    fn write(&self, elements: Vec<Element>, range: Range<usize>, out: &mut String) {
        let mut placed: Vec<(Range<usize>, Element)> = elements
            .into_iter()
            .map(|element| (self.target(&element, &range), element))
            .collect();
        // In the order of the translation; what stands at one place keeps its order.
        placed.sort_by_key(|(target, _)| target.start);
        let mut done = range.start;
        for (target, element) in placed {
            // No two of them cross.
            let start = target.start.max(done);
            let end = target.end.max(start);
            escape(&self.linked.text[done..start], out);
            out.push_str(&self.html[element.open]);
            self.write(element.inner, start..end, out);
            if let Some(close) = element.close {
                out.push_str(&self.html[close]);
            }
            if element.is_spaced && !self.linked.text[end..].starts_with(' ') {
                out.push(' ');
            }
            done = end;
        }
        escape(&self.linked.text[done..range.end], out);
    }
}

/// A text as HTML has it.
fn escape(text: &str, out: &mut String) {
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\u{a0}' => out.push_str("&nbsp;"),
            c => out.push(c),
        }
    }
}

/// Bytes of a text that a piece may stand behind the one before.
const SKIPPED: usize = 12;

/// Where each of `pieces` of a tokenizer stands in `text`, as far as that can be told: a piece that is not there as it is written has
/// no place.
pub(crate) fn places<'a>(
    text: &str,
    pieces: impl IntoIterator<Item = &'a str>,
) -> Vec<Option<Range<usize>>> {
    let mut at = 0;
    let place = |piece: &str| {
        let piece = piece.trim_start_matches(['\u{2581}', '\u{120}', ' ']);
        let rest = text.get(at..)?;
        let start = at + rest.len() - rest.trim_start().len();
        // Behind a character that was cut into bytes, a little further.
        let end = text.floor_char_boundary(start + SKIPPED + piece.len());
        let distance = text[start..end].find(piece)?;
        if piece.is_empty() {
            return None;
        }
        let start = start + distance;
        at = start + piece.len();
        Some(start..at)
    };
    let mut place = place;
    pieces.into_iter().map(&mut place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Translates each word by putting it in capitals, the words in the order that `order` says.
    fn shout(html: &str, order: impl Fn(usize, usize) -> usize) -> String {
        let document = Document::new(html);
        let mut all = Vec::new();
        for text in document.texts() {
            let mut words = Vec::new();
            let mut at = 0;
            for word in text.split(' ') {
                words.push((at..at + word.len(), word.to_uppercase()));
                at += word.len() + 1;
            }
            let mut out = String::new();
            let mut links = Vec::new();
            for i in 0..words.len() {
                let (source, word) = &words[order(i, words.len())];
                if i > 0 {
                    out.push(' ');
                }
                links.push((source.clone(), out.len()..out.len() + word.len()));
                out.push_str(word);
            }
            all.push((out, links));
        }
        let linked = all.iter().map(|(text, links)| Linked {
            text,
            links: links.clone(),
        });
        document.with(linked)
    }

    #[test]
    fn tags_follow_their_words() {
        let straight = |html: &str| shout(html, |i, _| i);
        let backwards = |html: &str| shout(html, |i, n| n - 1 - i);
        for (html, expected, other) in [
            (
                "<p>one <b>two</b> three</p>",
                "<p>ONE <b>TWO</b> THREE</p>",
                "<p>THREE <b>TWO</b> ONE</p>",
            ),
            ("<b>one two</b>", "<b>ONE TWO</b>", "<b>TWO ONE</b>"),
            (
                "one <a href='x'>two</a>",
                "ONE <a href='x'>TWO</a>",
                "<a href='x'>TWO</a> ONE",
            ),
            (
                "one <b>two <i>three</i> four</b> five",
                "ONE <b>TWO <i>THREE</i> FOUR</b> FIVE",
                "FIVE <b>FOUR <i>THREE</i> TWO</b> ONE",
            ),
            (
                "one <img src=x> two",
                "ONE <img src=x> TWO",
                "<img src=x> TWO ONE",
            ),
            ("one<br>two", "ONE<br>TWO", "ONE<br>TWO"),
            ("one <b>two three", "ONE <b>TWO THREE", "THREE <b>TWO ONE"),
        ] {
            assert_eq!(straight(html), expected);
            assert_eq!(backwards(html), other);
        }
    }

    #[test]
    fn what_is_no_text_stays_byte_for_byte() {
        let html = "<!DOCTYPE html>\n<html><head><style>p { a: b }</style>\n<script>var a = '<p>x</p>';</script></head>\n<body  class=x>\n <p>\n  one &lt; two &amp; three&nbsp;four\n </p><pre> a  b </pre><span translate=no>keep <span>this</span></span><p>&copy; 😀</p><!-- a --></body></html>\n";
        let expected = html.replace(
            "one &lt; two &amp; three&nbsp;four",
            "ONE &lt; TWO &amp; THREE&nbsp;FOUR",
        );
        assert_eq!(shout(html, |i, _| i), expected);
        for html in [
            "",
            "   ",
            "<",
            "a<",
            "<p",
            "</b>",
            "<p></p>",
            "&",
            "&#x110000;",
            "<b><i></b></i>",
            "<!--",
            "<script>",
            "\u{0}",
        ] {
            shout(html, |i, _| i);
        }
    }

    #[test]
    fn white_space_is_kept_around_and_gathered_inside() {
        assert_eq!(shout(" one\n  two ", |i, _| i), " ONE TWO ");
        assert_eq!(
            shout("<li> one <b> two </b> three</li>", |i, _| i),
            "<li> ONE <b>TWO</b> THREE</li>"
        );
    }

    #[test]
    fn documents_without_reason_are_answered_in_time() {
        let n = 100_000;
        for html in [
            format!("{}a{}", "<b>".repeat(n), "</b>".repeat(n)),
            format!("{}a{}", "<b>".repeat(n), "</i>".repeat(n)),
            format!("{}a", "<b>a".repeat(n)),
            "<b>a</b> ".repeat(n),
            format!("{}a", "<pre>".repeat(n)),
            format!("a {}", "<".repeat(n)),
        ] {
            let start = std::time::Instant::now();
            let out = shout(&html, |i, _| i);
            assert_eq!(html.matches("<b>").count(), out.matches("<b>").count());
            assert!(
                start.elapsed() < std::time::Duration::from_secs(30),
                "{}",
                &html[..9]
            );
        }
        let pieces = vec!["<0xC3>"; n];
        places(&"a".repeat(n), pieces);
    }

    #[test]
    fn every_tag_comes_back_once_wherever_the_words_go() {
        let mut state = 1_u64;
        let mut next = |below: usize| {
            state = state
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (state >> 33) as usize % below
        };
        let parts = [
            "one",
            " two ",
            "<b>",
            "</b>",
            "<i class=y>",
            "</i>",
            "<img>",
            " ",
            "&lt;x&gt;",
            "<a>",
            "</a>",
            "three",
            "<!--c-->",
        ];
        for _ in 0..3000 {
            let html: String = (0..next(14)).map(|_| parts[next(parts.len())]).collect();
            let shift = next(7);
            let out = shout(&html, |i, n| (i + shift) % n);
            for tag in [
                "<b>",
                "</b>",
                "<i class=y>",
                "</i>",
                "<img>",
                "<a>",
                "</a>",
                "<!--c-->",
                "&lt;",
            ] {
                assert_eq!(
                    html.matches(tag).count(),
                    out.matches(tag).count(),
                    "{html} {out}"
                );
            }
        }
    }

    #[test]
    fn pieces_are_found_in_their_text() {
        let found = places(
            "Guten Morgen, Ä.",
            [
                "\u{2581}Guten",
                "\u{2581}Mor",
                "gen",
                ",",
                "<0xC3>",
                "<0x84>",
                ".",
                "</s>",
            ],
        );
        let text =
            |range: &Option<Range<usize>>| range.clone().map(|range| &"Guten Morgen, Ä."[range]);
        let found: Vec<_> = found.iter().map(text).collect();
        assert_eq!(
            found,
            [
                Some("Guten"),
                Some("Mor"),
                Some("gen"),
                Some(","),
                None,
                None,
                Some("."),
                None
            ]
        );
    }
}
