//! Guesses which word was meant.

/// The candidate nearest to the word, if one is near enough to be a slip of the same word.
pub(super) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // More, and `rate` becomes another setting; fewer, and two swapped letters (`debgu`) go unrecognised.
    let limit = ((word.chars().count() + 1) / 3).clamp(1, 3);
    candidates
        .into_iter()
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, candidate)| candidate)
}

/// The end of a sentence that says a word is wrong.
pub(super) fn did_you_mean(word: Option<&str>) -> String {
    word.map(|word| format!("; did you mean {word}?")).unwrap_or_default()
}

/// Letters to add, drop or replace (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, y) in b.chars().enumerate() {
            let replaced = corner + usize::from(x != y);
            corner = row[j + 1];
            row[j + 1] = replaced.min(corner + 1).min(row[j] + 1);
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_recognised_and_another_word_is_not() {
        let known = ["queue", "timeout", "concurrency"];
        assert_eq!(nearest("concurency", known), Some("concurrency"));
        assert_eq!(nearest("que", known), None);
        assert_eq!(nearest("queues", known), Some("queue"));
        assert_eq!(nearest("rate", known), None);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
