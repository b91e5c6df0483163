//! Tables of figures with goals of our own.

/// One line of the tables.
pub(crate) struct Row {
    what: String,
    unit: &'static str,
    /// What it must not exceed; not a number where nothing is wanted of it.
    goal: f64,
    ours: f64,
}

/// A line.
pub(crate) fn row(what: impl Into<String>, unit: &'static str, goal: f64, ours: f64) -> Row {
    Row {
        what: what.into(),
        unit,
        goal,
        ours,
    }
}

/// Prints a table; whether every goal was reached.
pub(crate) fn print(title: &str, rows: &[Row]) -> bool {
    println!();
    println!("{title:<74}  {:>14}  {:>12}", "ours", "goal");
    for Row {
        what,
        unit,
        goal,
        ours,
    } in rows
    {
        let goal = if goal.is_nan() {
            "-".to_owned()
        } else {
            format!("{goal:.2} {unit}")
        };
        println!(
            "{what:<74}  {:>14}  {goal:>12}",
            format!("{ours:.2} {unit}")
        );
    }
    rows.iter()
        .all(|row| row.goal.is_nan() || row.ours <= row.goal)
}
