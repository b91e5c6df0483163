//! Tables as Consul prints them: columns to the left, two spaces apart, nothing after the last. Pure.

/// The table's lines, each with its line end. Rows shorter than the widest end early.
pub(crate) fn print(rows: &[Vec<String>]) -> String {
    print_apart(rows, 2)
}

/// The same with another space between columns.
pub(crate) fn print_apart(rows: &[Vec<String>], gap: usize) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|i| {
            rows.iter()
                .filter_map(|row| row.get(i))
                .map(|cell| width(cell))
                .max()
                .unwrap_or(0)
        })
        .collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (i, cell) in row.iter().enumerate() {
            line.push_str(cell);
            if i + 1 < row.len() {
                let padding = widths[i] - width(cell) + gap;
                line.extend(std::iter::repeat_n(' ', padding));
            }
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn width(cell: &str) -> usize {
    cell.chars().count()
}

/// A row of text.
pub(crate) fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(str::to_owned).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_two_spaces_apart() {
        let rows = [
            row(["Node", "ID", "Voter"]),
            row(["é", "long-id", "true"]),
            row(["abcdef", "", ""]),
        ];
        assert_eq!(
            print(&rows),
            "Node    ID       Voter\né       long-id  true\nabcdef\n"
        );
        assert_eq!(print(&[]), "");
    }
}
