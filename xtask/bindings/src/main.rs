//! Writes the C bindings of the contract, `sdk/c/bindings`, as `wit-bindgen c --world workspace` does.

use std::path::PathBuf;

use anyhow::{Context, Result};
use wit_bindgen_core::Files;
use wit_bindgen_core::wit_parser::Resolve;

fn main() -> Result<()> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let (contract, out) = (arguments.next(), arguments.next());
    let (contract, out) = contract.zip(out).context("c-bindings CONTRACT OUT")?;
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_path(&contract)?;
    let world = resolve.select_world(&[package], Some("workspace"))?;
    let mut files = Files::default();
    wit_bindgen_c::Opts::default().build().generate(&mut resolve, world, &mut files)?;
    std::fs::create_dir_all(&out)?;
    for (name, bytes) in files.iter() {
        std::fs::write(out.join(name), bytes)?;
    }
    Ok(())
}
