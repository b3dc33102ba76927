mod support;
use support::Bench;
#[test]
fn debug() {
    let mut b = Bench::new(12998034923819997784);
    let show = |b: &Bench, what: &str| {
        eprintln!(
            "{what}: app {} wr {} du {} files {:?}",
            b.log.appended_up_to(),
            b.log.written_up_to(),
            b.log.durable_up_to(),
            b.disk.files()
        )
    };
    b.append(0).unwrap();
    b.drain();
    b.append(0).unwrap();
    eprintln!("{:?}", b.crash(8362377850367353589));
    show(&b, "crashed");
    b.check_prefix(0);
    b.close();
    show(&b, "closed");
    eprintln!("{:?}", b.reopen(3));
    show(&b, "reopened");
    b.check_prefix(0);
    b.append(441).unwrap();
    b.drain();
    show(&b, "drained");
    eprintln!("{:?}", b.crash(8140997328710315610));
    show(&b, "crashed");
    b.check_prefix(0);
    b.append(0).unwrap();
    b.drain();
    show(&b, "drained");
    eprintln!("{:?}", b.crash(14007807283438770203));
    show(&b, "crashed");
    b.check_prefix(0);
    panic!();
}
