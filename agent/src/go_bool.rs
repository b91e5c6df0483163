//! Truth values as Go's programs take them, in flags, queries and filters. Pure.

/// Reads one of the spellings of Go's `strconv.ParseBool`; `None` for any other text.
pub(crate) fn parse(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_spellings_of_go_are_truth_values() {
        for text in ["1", "t", "T", "true", "TRUE", "True"] {
            assert_eq!(parse(text), Some(true), "{text}");
        }
        for text in ["0", "f", "F", "false", "FALSE", "False"] {
            assert_eq!(parse(text), Some(false), "{text}");
        }
        for text in ["", "2", "yes", "on", "tRUE", " true"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
