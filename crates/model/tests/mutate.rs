//! Documents that are broken in 10,000 ways give resources or problems with a place, and never a panic.

#[path = "support/mutator.rs"]
mod mutator;

use mutator::{Random, mutate};
use weft_model::{Catalog, Problems, Resource, parse};

const LAB: &str = include_str!("data/lab.yaml");
const ROUNDS: u64 = 10_000;

fn check(text: &str, counts: &mut [u32; 2]) {
    match weft_model::parse_drafts(text) {
        Ok(drafts) => {
            assert!(drafts.iter().all(|d| d.resource.as_ref().is_ok_and(|r| r.reference() == d.object)
                || d.resource.as_ref().is_err_and(|p| p.is_missing_field())))
        }
        Err(problems) => assert!(problems.0.iter().all(|p| p.line.is_some()), "{problems}"),
    }
    match parse(text) {
        Ok(parsed) => {
            counts[0] += 1;
            let mut catalog = Catalog::new();
            for p in parsed {
                assert_eq!(p.resource.validate(), []);
                let again = serde_json::from_value::<Resource>(p.resource.to_value())
                    .expect("what was read can be written");
                assert_eq!(again, p.resource);
                catalog.insert(p.resource);
            }
            drop(catalog.problems());
        }
        Err(Problems(problems)) => {
            counts[1] += 1;
            assert!(!problems.is_empty());
            for p in problems {
                assert!(p.line.is_some(), "no line: {p}\n{text}");
                assert!(!p.what.is_empty() && !p.mend.is_empty(), "{p:?}\n{text}");
            }
        }
    }
}

#[test]
fn ten_thousand_broken_documents() {
    let documents: Vec<&str> = LAB.split("---\n").collect();
    let json: Vec<String> = parse(LAB).unwrap().iter().map(|p| p.resource.to_value().to_string()).collect();
    let mut random = Random(0x5eed_0001);
    let mut counts = [0, 0];
    for round in 0..ROUNDS {
        let n = random.below(documents.len());
        let text = if round % 2 == 0 { documents[n] } else { &json[n] };
        check(&mutate(text, &mut random), &mut counts);
        if round % 100 == 0 {
            check(&mutate(LAB, &mut random), &mut counts);
        }
    }
    // The breaking breaks, and not everything.
    assert!(counts[0] > 200 && counts[1] > 5_000, "{counts:?}");
}

#[test]
fn bombs_are_refused_quickly() {
    let head = "apiVersion: weft.dev/v1\nkind: Network\nmetadata:\n  name: a\nspec: ";
    let laughs: String =
        (1..30).map(|i| format!("l{i}: &l{i} [{}]\n", vec![format!("*l{}", i - 1); 9].join(","))).collect();
    let bombs = [
        format!("{head}{}", "[".repeat(200_000)),
        format!("{head}{}", "{a: ".repeat(100_000)),
        format!("{}1", "{\"a\":".repeat(200_000)),
        format!("{head}{}x", "- ".repeat(200_000)),
        format!("{head}{}x", "? ".repeat(200_000)),
        format!("{head}{}", (0..2_000).map(|i| format!("{}a:\n", " ".repeat(i))).collect::<String>()),
        format!("{head}[{}]", "[],".repeat(200_000)),
        format!("{head}{{{}}}", (0..100_000).map(|i| format!("k{i}: {{}},")).collect::<String>()),
        format!("{head}\"{}", "\\".repeat(500_001)),
        format!("l0: &l0 x\n{laughs}{head}{{}}"),
        format!("{head}{{libvirt: {{a: \"{}\"}}}}", "x".repeat(2_000_000)),
        "---\n".repeat(200_000),
        "---\nkind: x\n".repeat(100_000),
    ];
    for bomb in bombs {
        let start = std::time::Instant::now();
        drop(parse(&bomb));
        let shown: String = bomb.chars().take(150).collect();
        assert!(start.elapsed().as_secs() < 10, "{:?} for {shown}", start.elapsed());
    }
}
