//! Does the book keep its promises under any sequence of operations?

use core::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;

fn ip(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, last)
}

fn book(ranges: &[(u8, u8)], reserved: &[u8]) -> LeaseBook<Ipv4Addr> {
    LeaseBook::new(vec![PoolSpec {
        network: ip(0),
        prefix_len: 24,
        ranges: ranges.iter().map(|(a, b)| (ip(*a), ip(*b))).collect(),
        reserved: reserved.iter().map(|r| ip(*r)).collect(),
    }])
}

fn client(n: u8) -> Client {
    Client::mac(Mac([2, 0, 0, 0, 0, n]))
}

fn lease(address: Ipv4Addr, n: u8, state: LeaseState, since: u64, expires: u64) -> Lease<Ipv4Addr> {
    Lease { address, client: client(n), mac: None, hostname: None, state, since, expires }
}

#[test]
fn a_client_gets_its_address_again() {
    let mut book = book(&[(10, 20)], &[]);
    let first = book.choose(0, &client(1), None, 0).unwrap();
    book.set(lease(first, 1, LeaseState::Bound, 0, 100));
    assert_eq!(book.choose(0, &client(1), Some(ip(15)), 50), Some(first));
    assert_eq!(book.choose(0, &client(1), None, 500), Some(first), "after it ended, too");
    assert!(book.is_open(first, &client(2), 100) && !book.is_open(first, &client(2), 99));
}

#[test]
fn an_offer_of_another_address_ends_no_lease() {
    let mut book = book(&[(10, 20)], &[]);
    book.set(lease(ip(13), 1, LeaseState::Bound, 0, 1000));
    assert!(book.set(lease(ip(12), 1, LeaseState::Offered, 5, 35)).is_empty());
    assert!(!book.is_open(ip(13), &client(2), 6), "it is still held");
    assert_eq!(book.find(0, &client(1)).map(|l| l.address), Some(ip(13)));
    let changes = book.set(lease(ip(12), 1, LeaseState::Bound, 7, 1000));
    assert_eq!(changes.iter().map(|c| c.address).collect::<Vec<_>>(), [ip(13), ip(12)], "now it ends");
    assert!(book.is_open(ip(13), &client(2), 7) && !book.is_open(ip(12), &client(2), 7));
}

#[test]
fn a_hint_is_honoured_when_it_can_be() {
    let book = book(&[(10, 20)], &[12]);
    assert_eq!(book.choose(0, &client(1), Some(ip(15)), 0), Some(ip(15)));
    for outside in [9, 21, 12] {
        let got = book.choose(0, &client(1), Some(ip(outside)), 0).unwrap();
        assert_ne!(got, ip(outside));
        assert!(book.is_dynamic(0, got));
    }
}

#[test]
fn untaken_offers_are_given_before_ended_leases_and_a_full_pool_says_no() {
    let mut book = book(&[(10, 12)], &[]);
    book.set(lease(ip(10), 1, LeaseState::Bound, 0, 50));
    book.set(lease(ip(11), 2, LeaseState::Offered, 0, 60));
    book.set(lease(ip(12), 3, LeaseState::Bound, 0, 1000));
    assert_eq!(book.choose(0, &client(9), None, 40), None);
    assert_eq!(book.choose(0, &client(9), None, 55), Some(ip(10)));
    assert_eq!(book.choose(0, &client(9), None, 60), Some(ip(11)));
    assert_eq!(book.room(0, 60), (2, 3));
}

#[test]
fn moving_to_another_address_ends_the_first() {
    let mut book = book(&[(10, 20)], &[]);
    book.set(lease(ip(10), 1, LeaseState::Bound, 0, 100));
    let changes = book.set(lease(ip(11), 1, LeaseState::Bound, 5, 100));
    let states: Vec<_> = changes.iter().map(|c| (c.address, c.after.as_ref().unwrap().state)).collect();
    assert_eq!(states, [(ip(10), LeaseState::Released), (ip(11), LeaseState::Bound)]);
    assert!(book.is_open(ip(10), &client(2), 5));
}

#[test]
fn revert_undoes_only_what_still_stands() {
    let mut book = book(&[(10, 20)], &[]);
    let change = book.set(lease(ip(10), 1, LeaseState::Bound, 0, 100)).pop().unwrap();
    book.revert(&change);
    assert!(book.is_empty() && book.room(0, 0) == (11, 11));
    let change = book.set(lease(ip(10), 1, LeaseState::Bound, 0, 100)).pop().unwrap();
    book.set(lease(ip(10), 1, LeaseState::Bound, 10, 200));
    book.revert(&change);
    assert_eq!(book.get(ip(10)).unwrap().expires, 200);
}

#[test]
fn pools_change_and_leases_stay() {
    let mut book = book(&[(10, 20)], &[]);
    book.set(lease(ip(10), 1, LeaseState::Bound, 0, 100));
    let same = vec![PoolSpec { ranges: vec![(ip(30), ip(40))], ..book.pool(0).unwrap().clone() }];
    assert!(book.set_pools(same).is_empty());
    assert_eq!(book.find(0, &client(1)).unwrap().address, ip(10));
    assert_ne!(book.choose(0, &client(1), None, 0), Some(ip(10)), "no longer in a range");
    let other =
        PoolSpec { network: Ipv4Addr::new(10, 0, 1, 0), prefix_len: 24, ranges: vec![], reserved: vec![] };
    let lost = book.set_pools(vec![other]);
    assert!(lost.len() == 1 && lost[0].after.is_none() && book.is_empty());
}

#[test]
fn sweeping_forgets_the_oldest() {
    let mut book = book(&[(10, 20)], &[]);
    for n in 0..5 {
        book.set(lease(ip(10 + n), n, LeaseState::Bound, 0, 10 * (1 + u64::from(n))));
    }
    assert_eq!(book.sweep(30, 2).len(), 2);
    assert_eq!(book.sweep(30, 9).len(), 1);
    assert_eq!((book.len(), book.room(0, 0)), (2, (9, 11)));
}

#[test]
fn the_whole_of_ipv6_is_a_pool() {
    let all = PoolSpec {
        network: Ipv6Addr::UNSPECIFIED,
        prefix_len: 0,
        ranges: vec![(Ipv6Addr::UNSPECIFIED, Ipv6Addr::from(u128::MAX))],
        reserved: vec![Ipv6Addr::from(u128::MAX)],
    };
    let book = LeaseBook::new(vec![all]);
    assert!(book.choose(0, &Client::ia(&[0, 1], 7), None, 0).is_some());
    assert_eq!(book.choose(0, &client(1), Some(Ipv6Addr::LOCALHOST), 0), Some(Ipv6Addr::LOCALHOST));
}

#[test]
fn clients_are_readable() {
    let shown = |c: Client| c.to_string();
    assert_eq!(shown(client(7)), "mac 02:00:00:00:00:07");
    assert_eq!(shown(Client::id(&[1, 0xab])), "id 01:ab");
    assert_eq!(shown(Client::ia(&[0, 3], 9)), "iaid 9 duid 00:03");
    assert_eq!(shown(Client::hardware(32, &[5])), "hardware 32 05");
    assert_eq!(Client::from_bytes(client(7).bytes()), client(7));
}

#[derive(Debug, Clone)]
enum Op {
    Give { n: u8, hint: u8, state: LeaseState, for_: u64 },
    Remove(u8),
    Reserve(u8),
    Unreserve(u8),
    Wait(u64),
    Sweep,
}

fn op() -> impl Strategy<Value = Op> {
    use LeaseState::*;
    let state = prop::sample::select(vec![Offered, Bound, Bound, Released, Declined]);
    prop_oneof![
        8 => (0..12u8, 0..30u8, state, 0..50u64).prop_map(|(n, hint, state, for_)| Op::Give { n, hint, state, for_ }),
        1 => (0..30u8).prop_map(Op::Remove),
        1 => (0..30u8).prop_map(Op::Reserve),
        1 => (0..30u8).prop_map(Op::Unreserve),
        2 => (0..40u64).prop_map(Op::Wait),
        1 => Just(Op::Sweep),
    ]
}

proptest! {
    /// The intervals, the indices and the entries never contradict each other, and no address is
    /// given to two.
    #[test]
    fn indices_agree(ops in prop::collection::vec(op(), 1..120)) {
        let mut book = book(&[(10, 14), (15, 17), (22, 24)], &[12]);
        let mut reserved = BTreeSet::from([12u8]);
        let mut now = 0;
        for op in ops {
            match op {
                Op::Give { n, hint, state, for_ } => {
                    if let Some(address) = book.choose(0, &client(n), Some(ip(hint)), now) {
                        prop_assert!(book.is_open(address, &client(n), now));
                        prop_assert!(!reserved.contains(&address.octets()[3]));
                        let holder = book.get(address).filter(|l| l.expires > now).map(|l| l.client.clone());
                        prop_assert!(holder.is_none_or(|h| h == client(n)));
                        book.set(lease(address, n, state, now, now + for_));
                    } else {
                        prop_assert_eq!(book.room(0, now).0, 0);
                    }
                }
                Op::Remove(a) => drop(book.remove(ip(a))),
                Op::Reserve(a) => { reserved.insert(a); book.reserve(ip(a)); }
                Op::Unreserve(a) => { reserved.remove(&a); book.unreserve(ip(a)); }
                Op::Wait(s) => now += s,
                Op::Sweep => drop(book.sweep(now.saturating_sub(20), 3)),
            }
            for address in 10..25u8 {
                let dynamic = book.is_dynamic(0, ip(address));
                let in_range = matches!(address, 10..=17 | 22..=24);
                prop_assert_eq!(dynamic, in_range && !reserved.contains(&address));
            }
            let free = (10..25u8).filter(|a| book.is_dynamic(0, ip(*a)) && book.get(ip(*a)).is_none()).count();
            prop_assert_eq!(book.pools[0].free_len(), free as u128);
            for ((_, client), address) in &book.by_client {
                prop_assert_eq!(&book.get(*address).unwrap().client, client);
            }
            prop_assert_eq!(book.expiry.len(), book.leases.len());
            prop_assert_eq!(book.by_mac.len(), book.leases.values().filter(|l| l.mac.is_some()).count());
            for (address, lease) in &book.hidden {
                prop_assert_eq!(book.get(*address).unwrap().state, LeaseState::Offered);
                prop_assert_ne!(lease.state, LeaseState::Offered);
            }
        }
    }
}
