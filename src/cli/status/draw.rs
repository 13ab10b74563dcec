//! A tree as text: wrapped where the terminal ends, coloured where somebody looks.

/// How a piece of text is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paint {
    /// As it is.
    Plain,
    /// The name of a thing.
    Bold,
    /// Less important.
    Dim,
    /// All is well.
    Good,
    /// It is under way.
    Busy,
    /// Something is wrong.
    Bad,
}

/// A piece of a line.
pub type Piece = (Paint, String);

/// A thing: its line, what is said of it, and what is below it.
#[derive(Debug, Clone, Default)]
pub struct Branch {
    /// The line.
    pub line: Vec<Piece>,
    /// What is said of it, the most important first; long ones are wrapped.
    pub notes: Vec<Piece>,
    /// What is below it.
    pub below: Vec<Self>,
}

/// How the text is drawn.
#[derive(Debug, Clone, Copy)]
pub struct Style {
    /// Columns of the terminal; `None`: nothing is wrapped.
    pub width: Option<usize>,
    /// Whether colours are used.
    pub colour: bool,
}

impl Style {
    /// As the standard output is: a terminal has a width, and colours unless NO_COLOR is set.
    pub fn of_stdout() -> Self {
        use std::io::IsTerminal as _;

        let out = std::io::stdout();
        if !out.is_terminal() {
            return Self { width: None, colour: false };
        }
        let width = rustix::termios::tcgetwinsize(&out).map(|size| usize::from(size.ws_col)).ok().filter(|width| *width >= 20);
        Self { width, colour: std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) }
    }

    fn paint(self, (paint, text): &Piece) -> String {
        let code = match paint {
            _ if !self.colour => return text.clone(),
            Paint::Plain => return text.clone(),
            Paint::Bold => "1",
            Paint::Dim => "2",
            Paint::Good => "32",
            Paint::Busy => "33",
            Paint::Bad => "31",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// The tree.
pub fn draw(branches: &[Branch], style: Style) -> String {
    let mut text = String::new();
    for (index, branch) in branches.iter().enumerate() {
        if index > 0 {
            text.push('\n');
        }
        one(branch, "", "", style, &mut text);
    }
    text
}

/// What is said of everything, on top of the tree.
pub fn note(text: &str, style: Style) -> String {
    let lines = wrapped(text, style.width.map(|width| width.max(20)));
    let lines = lines.into_iter().map(|line| format!("{}\n", style.paint(&(Paint::Bad, line))));
    lines.collect::<String>() + "\n"
}

fn one(branch: &Branch, first: &str, rest: &str, style: Style, text: &mut String) {
    text.push_str(first);
    let last = branch.line.len().saturating_sub(1);
    for (index, piece) in branch.line.iter().enumerate() {
        text.push_str(&style.paint(piece));
        text.push_str(if index == last { "\n" } else { "  " });
    }
    let stem = if branch.below.is_empty() { "  " } else { "│ " };
    for (paint, note) in &branch.notes {
        let room = style.width.map(|width| width.saturating_sub(rest.chars().count() + 2).max(20));
        for line in wrapped(note, room) {
            text.push_str(&format!("{rest}{stem}{}\n", style.paint(&(*paint, line))));
        }
    }
    let last = branch.below.len().saturating_sub(1);
    for (index, below) in branch.below.iter().enumerate() {
        let (knot, stem) = if index == last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        one(below, &format!("{rest}{knot}"), &format!("{rest}{stem}"), style, text);
    }
}

/// The text in lines of at most `room` characters, broken between words where that is possible.
fn wrapped(text: &str, room: Option<usize>) -> Vec<String> {
    let Some(room) = room else { return vec![text.replace('\n', " ")] };
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let mut word: Vec<char> = word.chars().collect();
        while let Some(line) = lines.last_mut() {
            let used = line.chars().count();
            if used + usize::from(used > 0) + word.len() <= room {
                if used > 0 {
                    line.push(' ');
                }
                line.extend(&word);
                break;
            }
            if used == 0 {
                let rest = word.split_off(room.min(word.len()));
                line.extend(&word);
                word = rest;
            }
            lines.push(String::new());
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_wrapped_and_nothing_of_them_is_lost() {
        let text = "one two three, and a-word-that-is-longer-than-a-line four";
        for room in 3..40 {
            let lines = wrapped(text, Some(room));
            assert!(lines.iter().all(|line| line.chars().count() <= room), "{room}: {lines:?}");
            let letters = |text: &str| text.chars().filter(|c| *c != ' ').collect::<String>();
            assert_eq!(letters(&lines.concat()), letters(text), "{room}");
        }
        assert_eq!(wrapped(text, None), [text]);
    }

    #[test]
    fn colours_are_there_only_where_they_are_wanted() {
        let branch = Branch { line: vec![(Paint::Bad, "x".into())], ..Branch::default() };
        assert_eq!(draw(std::slice::from_ref(&branch), Style { width: None, colour: false }), "x\n");
        assert_eq!(draw(&[branch], Style { width: None, colour: true }), "\x1b[31mx\x1b[0m\n");
    }
}
