//! Columns of text.

/// Rows under a header, each column as wide as its widest cell, indented by `indent` spaces.
pub fn table<const N: usize>(indent: usize, header: [&str; N], rows: &[[String; N]]) -> String {
    let mut width = header.map(|cell| cell.chars().count());
    for row in rows {
        for (width, cell) in width.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: &[String; N]| {
        let mut line = " ".repeat(indent);
        for (cell, width) in cells.iter().zip(width) {
            line += &format!("{cell:width$}  ");
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
    fn nouns_follow_their_number() {
        assert_eq!(count(1, "topology"), "1 topology");
        assert_eq!(count(2, "topology"), "2 topologies");
        assert_eq!(count(0, "flow"), "0 flows");
    }
}
