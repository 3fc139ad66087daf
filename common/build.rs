//! `sqlx::migrate!` embeds the migrations at compile time; without this line a migration added later would silently be left out.
fn main() {
    println!("cargo:rerun-if-changed=../migrations");
}
