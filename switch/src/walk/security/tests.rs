use super::*;

const A: [u8; 6] = [2, 0, 0, 0, 0, 0xa];
const B: [u8; 6] = [2, 0, 0, 0, 0, 0xb];

fn option(kind: u8, units: u8, mac: [u8; 6]) -> Vec<u8> {
    [&[kind, units][..], &mac].concat()
}

fn macs(options: &[u8]) -> Result<[Option<MacAddr>; 2], BadOptions> {
    let found = LinkLayer::parse(options)?;
    Ok([found.source, found.target])
}

#[test]
fn link_layer_options_are_found_among_others() {
    let (a, b) = (Some(MacAddr::new(A)), Some(MacAddr::new(B)));
    assert_eq!(macs(&[]), Ok([None, None]));
    assert_eq!(macs(&option(1, 1, A)), Ok([a, None]));
    assert_eq!(macs(&option(2, 1, B)), Ok([None, b]));
    let long = [&option(14, 2, A)[..], &[0; 8], &option(2, 1, B)].concat();
    assert_eq!(macs(&long), Ok([None, b]));
    let both = [option(2, 1, B), option(1, 1, A)].concat();
    assert_eq!(macs(&both), Ok([a, b]));
}

#[test]
fn options_that_are_none_are_refused() {
    // Of no length, beyond the end, cut short, and two of one kind.
    assert_eq!(macs(&option(1, 0, A)), Err(BadOptions));
    assert_eq!(macs(&option(1, 2, A)), Err(BadOptions));
    assert_eq!(macs(&option(1, 1, A)[..7]), Err(BadOptions));
    assert_eq!(macs(&[1]), Err(BadOptions));
    let twice = [option(1, 1, A), option(1, 1, B)].concat();
    assert_eq!(macs(&twice), Err(BadOptions));
    let behind = [&option(1, 1, A)[..], &[0]].concat();
    assert_eq!(macs(&behind), Err(BadOptions));
}

#[test]
fn every_cut_of_every_list_of_options_ends() {
    let whole = [option(1, 1, A), option(9, 1, B), option(2, 1, B)].concat();
    for len in 0..=whole.len() {
        let parsed = macs(&whole[..len]);
        assert_eq!(parsed.is_ok(), len.is_multiple_of(8), "{len}");
    }
}

#[test]
fn a_target_is_in_the_last_sixteen_of_twenty_four_octets() {
    let body: Vec<u8> = (0..24).collect();
    let target = Address::from_bits(0x0809_0a0b_0c0d_0e0f_1011_1213_1415_1617);
    assert_eq!(discovery_target(&body), Some(target));
    assert_eq!(discovery_target(&body[..23]), None);
    assert_eq!(discovery_target(&[]), None);
}
