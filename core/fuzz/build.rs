//! Links the targets with `no_sanitizer.c`.

fn main() {
    for object in cc::Build::new().file("no_sanitizer.c").cargo_metadata(false).compile_intermediates() {
        println!("cargo:rustc-link-arg-bins={}", object.display());
    }
    println!("cargo:rerun-if-changed=no_sanitizer.c");
}
