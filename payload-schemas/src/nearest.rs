//! "Did you mean": the known name nearest to an unknown one.

/// The candidate that `word` was most likely meant to be, if any is near enough to be worth saying.
///
/// Case does not count. A name may differ in about a third of its letters, and swapped neighbours count as one difference.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Nobody means a known name by something this long, and the table below grows with the product of both lengths.
    if word.len() > 64 {
        return None;
    }
    let wanted: Vec<char> = word.to_lowercase().chars().collect();
    candidates
        .into_iter()
        .map(|candidate| {
            let letters: Vec<char> = candidate.to_lowercase().chars().collect();
            let allowed = (wanted.len().max(letters.len()) / 3).max(1);
            (distance(&wanted, &letters), allowed, candidate)
        })
        .filter(|(distance, allowed, _)| distance <= allowed)
        .min_by_key(|(distance, _, _)| *distance)
        .map(|(_, _, candidate)| candidate)
}

/// Edits between two words: insert, delete, replace, swap two neighbours.
fn distance(left: &[char], right: &[char]) -> usize {
    let width = right.len() + 1;
    let mut before_last: Vec<usize> = vec![0; width];
    let mut last: Vec<usize> = (0..width).collect();
    for (row, letter) in left.iter().enumerate() {
        let mut current = vec![row + 1; width];
        for (column, other) in right.iter().enumerate() {
            let replaced = last[column] + usize::from(letter != other);
            let mut best = replaced.min(last[column + 1] + 1).min(current[column] + 1);
            let swapped = row > 0 && column > 0 && *letter == right[column - 1] && left[row - 1] == *other;
            if swapped {
                best = best.min(before_last[column - 1] + 1);
            }
            current[column + 1] = best;
        }
        before_last = std::mem::replace(&mut last, current);
    }
    last[width - 1]
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn typing_mistakes_find_their_word() {
        let known = ["maxRunTime", "command", "env", "features"];
        assert_eq!(nearest("maxRuntime", known), Some("maxRunTime"));
        assert_eq!(nearest("comand", known), Some("command"));
        assert_eq!(nearest("evn", known), Some("env"));
        assert_eq!(nearest("feature", known), Some("features"));
    }

    #[test]
    fn a_different_word_finds_nothing() {
        assert_eq!(nearest("scopes", ["maxRunTime", "command"]), None);
        assert_eq!(nearest("", ["command"]), None);
        assert_eq!(nearest(&"x".repeat(100_000), ["command"]), None);
    }
}
