//! Finds the file, reads it, and knows the line of every key.
//!
//! Error texts of the TOML parser are not passed on whole: they quote the line, and the line may hold a
//! password.

use std::collections::HashMap;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use figment::value::Dict;
use serde::Deserialize;
use toml::de::{DeTable, DeValue, Error};

use super::fault::Fault;
use super::layers::name_of;
use super::sources::Sources;

/// No configuration is larger; a device or a database dump given by mistake is.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Each costs one more parse of the file; further ones are named in the parser's words.
const SECOND_TABLES_MAX: usize = 20;

/// The line of each key and table header, counted from 1.
pub(super) type Lines = HashMap<Vec<String>, usize>;

/// What was found in the file.
#[derive(Default)]
pub(super) struct Found {
    pub(super) path: Option<PathBuf>,
    pub(super) dict: Dict,
    pub(super) lines: Lines,
    pub(super) broken: Vec<Fault>,
    pub(super) faults: Vec<Fault>,
}

/// Reads the file that was asked for, else the first one that exists; with neither the result is empty.
pub(super) fn read(sources: &Sources) -> Found {
    let asked_for = sources.file.iter().map(|path| (path, true));
    let places: Vec<_> = if sources.file.is_some() {
        asked_for.collect()
    } else {
        sources.places.iter().map(|path| (path, false)).collect()
    };
    for (path, must_exist) in places {
        match read_text(path) {
            Ok(text) => return parse(path.clone(), &text),
            Err((ErrorKind::NotFound, _)) if !must_exist => {}
            Err((_, problem)) => {
                let source = name_of(path);
                let fault = Fault { source, key: String::new(), problem };
                return Found { faults: vec![fault], ..Found::default() };
            }
        }
    }
    Found::default()
}

/// Reads a small text file; the error's words complete a sentence about it.
pub(super) fn read_text(path: &Path) -> Result<String, (ErrorKind, String)> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes))
        .map_err(|error| (error.kind(), format!("cannot be read: {error}")))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err((ErrorKind::FileTooLarge, format!("is larger than {FILE_BYTES_MAX} bytes")));
    }
    String::from_utf8(bytes).map_err(|_| (ErrorKind::InvalidData, "is not UTF-8 text".to_owned()))
}

fn parse(path: PathBuf, text: &str) -> Found {
    let mut text = text.to_owned();
    let mut broken = vec![];
    while let Some(line) = second_table(&text).filter(|_| broken.len() < SECOND_TABLES_MAX) {
        let header = set_aside(&mut text, line);
        broken.push(fault(&path, line, format!("{header} is there twice")));
    }
    let (table, errors) = DeTable::parse_recoverable(&text);
    let mut lines = Lines::new();
    note_lines(&text, table.get_ref(), &mut vec![], &mut lines);
    let named =
        |error: &Error| fault(&path, error_line(&text, error), format!("is no TOML: {}", words(error)));
    broken.extend(errors.iter().map(named));
    let dict = Dict::deserialize(toml::Deserializer::from(table)).unwrap_or_else(|error| {
        broken.push(named(&error));
        Dict::new()
    });
    Found { path: Some(path), dict, lines, broken, faults: vec![] }
}

fn fault(path: &Path, line: usize, problem: String) -> Fault {
    Fault { source: format!("{}:{line}", name_of(path)), key: String::new(), problem }
}

/// The parser's own words, without the lines it would add.
fn words(error: &Error) -> &str {
    error.message().trim()
}

/// The line of the first header that opens a table a second time, as two handlers of one kind do.
fn second_table(text: &str) -> Option<usize> {
    let (_, errors) = DeTable::parse_recoverable(text);
    let twice = errors.iter().filter(|error| error.message().contains("duplicate key"));
    twice
        .map(|error| error_line(text, error))
        .find(|line| is_header(text.lines().nth(line - 1).unwrap_or("")))
}

/// Blanks the table at this line and returns its header: mixed with the first one, its keys would make
/// faults that nobody wrote. Lines keep their numbers.
fn set_aside(text: &mut String, line: usize) -> String {
    let mut lines: Vec<&str> = text.split('\n').collect();
    let header = lines[line - 1].trim().to_owned();
    let length = lines[line..].iter().take_while(|line| !is_header(line)).count();
    lines[line - 1..line + length].fill("");
    *text = lines.join("\n");
    header
}

fn is_header(line: &str) -> bool {
    line.trim_start().starts_with('[')
}

fn error_line(text: &str, error: &Error) -> usize {
    line_at(text, error.span().map_or(0, |span| span.start))
}

fn line_at(text: &str, at: usize) -> usize {
    1 + text.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count()
}

fn note_lines(text: &str, table: &DeTable<'_>, path: &mut Vec<String>, lines: &mut Lines) {
    for (key, value) in table {
        path.push(key.get_ref().to_string());
        lines.insert(path.clone(), line_at(text, key.span().start));
        if let DeValue::Table(inner) = value.get_ref() {
            note_lines(text, inner, path, lines);
        }
        path.pop();
    }
}
