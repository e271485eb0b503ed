//! A document of any kind through reader and writer: for the mutation test and the fuzz target alike.

use weft_libvirt::{export, import};
use weft_model::Resource;

/// Reads a text; what is taken must be valid, must come back the same from its own document, and is counted as true.
pub(crate) fn document(text: &str) -> bool {
    let first = match import(text) {
        Ok(import) => import,
        Err(problems) => {
            assert!(!problems.0.is_empty(), "refused without a reason:\n{text}");
            for p in &problems.0 {
                assert!(!p.what.is_empty() && !p.mend.is_empty(), "{p:?}\n{text}");
                assert!(p.line.is_some() || text.len() > 1_000, "no line: {p}\n{text}");
            }
            return false;
        }
    };
    for resource in &first.resources {
        assert_eq!(resource.validate(), [], "{text}");
    }
    let networks = first.resources.iter().filter_map(Resource::as_network).count();
    assert_eq!(networks, 1, "{text}");
    let network = first.resources[0].as_network().expect("the network comes first");
    let subnets: Vec<_> = first.resources.iter().filter_map(Resource::as_subnet).collect();
    match export(network, &subnets) {
        Ok(out) => {
            let second = import(&out.xml).unwrap_or_else(|p| panic!("{p}\n{text}\n{}", out.xml));
            if out.lost.is_empty() {
                assert_eq!(first.resources, second.resources, "{text}\n{}", out.xml);
            }
            let network = second.resources[0].as_network().expect("the network comes first");
            let subnets: Vec<_> = second.resources.iter().filter_map(Resource::as_subnet).collect();
            let again = export(network, &subnets).unwrap_or_else(|p| panic!("{p}\n{text}\n{}", out.xml));
            assert_eq!(again.xml, out.xml, "{text}");
        }
        // Words that were kept may make no document; they are named.
        Err(problems) => assert!(problems.to_string().contains("spec.libvirt"), "{problems}\n{text}"),
    }
    true
}
