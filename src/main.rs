fn main() {
    for (f, c) in bonafide::api::crds() {
        let y = bonafide::api::render_crd(&c).unwrap_or_default();
        eprintln!("{f} {}", y.len());
        println!("---\n{y}");
    }
}
