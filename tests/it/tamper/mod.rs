//! Every way to tamper with a signed model, told to `bonafide verify` and to the reference client: what each says stands in a
//! table, which is also the manual docs/tamper.md.

mod ours;
mod scene;
mod signed;
mod table;
mod theirs;
