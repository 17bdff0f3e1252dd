//! Columns of text. Their width is that of a terminal, where Korean letters take two places.

use unicode_width::UnicodeWidthStr;

/// Rows under a header, each column as wide as its widest cell, indented by `indent` spaces.
pub fn table<const N: usize>(indent: usize, header: [&str; N], rows: &[[String; N]]) -> String {
    let mut width = header.map(UnicodeWidthStr::width);
    for row in rows {
        for (width, cell) in width.iter_mut().zip(row) {
            *width = (*width).max(cell.width());
        }
    }
    let line = |cells: &[String; N]| {
        let mut line = " ".repeat(indent);
        for (cell, width) in cells.iter().zip(width) {
            line += cell;
            line += &" ".repeat(width - cell.width() + 2);
        }
        line.trim_end().to_owned() + "\n"
    };
    std::iter::once(&header.map(str::to_owned))
        .chain(rows)
        .map(line)
        .collect()
}

/// A count with its noun: `1 task`, `4 tasks`.
pub fn count(number: usize, noun: &str) -> String {
    match (number, noun.strip_suffix('y')) {
        (1, _) => format!("1 {noun}"),
        (_, Some(stem)) => format!("{number} {stem}ies"),
        (_, None) => format!("{number} {noun}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_lines_have_no_trailing_blanks() {
        let rows = [["a".to_owned(), String::new()], ["bbbb".into(), "x".into()]];
        assert_eq!(table(1, ["H", "I"], &rows), " H     I\n a\n bbbb  x\n");
    }

    #[test]
    fn wide_letters_take_two_places() {
        let rows = [["결제".to_owned(), "1".to_owned()], ["orders".into(), "2".into()]];
        assert_eq!(table(0, ["T", "N"], &rows), "T       N\n결제    1\norders  2\n");
    }

    #[test]
    fn nouns_follow_their_number() {
        assert_eq!(count(1, "topology"), "1 topology");
        assert_eq!(count(2, "topology"), "2 topologies");
        assert_eq!(count(0, "flow"), "0 flows");
    }
}
