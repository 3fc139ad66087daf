//! How scripts part their words: with spaces, or not at all.

/// Han, Kana, Bopomofo and their punctuation: they stand side by side, also across the end of a line. Hangul is not
/// among them, since Korean parts its words.
pub(super) fn is_dense(c: char) -> bool {
    matches!(c,
        '\u{2e80}'..='\u{312f}' | '\u{3190}'..='\u{31ff}' | '\u{3220}'..='\u{325f}' | '\u{3280}'..='\u{4dbf}'
        | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{fe30}'..='\u{fe4f}' | '\u{ff01}'..='\u{ff9f}'
        | '\u{1b000}'..='\u{1b16f}' | '\u{20000}'..='\u{3fffd}')
}

/// Thai, Lao, Burmese and Khmer: a space ends a phrase and not a word, so a line may end where no space is.
pub(super) fn is_unspaced(c: char) -> bool {
    matches!(c, '\u{e00}'..='\u{eff}' | '\u{1000}'..='\u{109f}' | '\u{1780}'..='\u{17ff}')
}

/// Twice as wide as a Latin letter: Han, Kana, Hangul.
pub(super) fn is_wide(c: char) -> bool {
    is_dense(c)
        || matches!(c, '\u{1100}'..='\u{11ff}' | '\u{3130}'..='\u{318f}' | '\u{ac00}'..='\u{d7ff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    // X46
    #[test]
    fn scripts_are_told_apart() {
        assert!("人々ひカｶ。、「ー々〇㐀𠀀，！".chars().all(is_dense));
        assert!(!"aé한글שא9 ,.กᄀ".chars().any(is_dense));
        assert!("กิ่ລາວမြန်မាខ្មែរ".chars().all(is_unspaced) && !"a한人".chars().any(is_unspaced));
        assert!("人한カ".chars().all(is_wide) && !"aกש".chars().any(is_wide));
    }
}
