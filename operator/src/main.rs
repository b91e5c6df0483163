//! Binary.
fn main() {
    print!("{}", operator::crd::manifest().unwrap_or_default());
}
