//! What wit-bindgen makes of the contract. Nothing of it is public API: the modules beside this one
//! give it types.

#![allow(missing_docs, clippy::all)]

wit_bindgen::generate!({
    path: "../../wit/0.2.0",
    world: "workspace",
    // The exports are written into the author's crate, by our `export!`.
    pub_export_macro: true,
    export_macro_name: "__export_bindings",
    default_bindings_module: "epicenter_workspace::__bindings",
});
