//! What this process uses, in the names of Prometheus' process collector, as Litestream serves them. Linux only: elsewhere,
//! and where `/proc` cannot be read, the metrics are absent.

use std::fmt::Write as _;
use std::path::Path;

use crate::host::Disk;

/// More than any of these files has.
const LONGEST: usize = 64 << 10;
/// Clock ticks per second in `/proc` (`USER_HZ`), on every architecture that Linux runs on.
const TICKS: f64 = 100.0;

/// All of them, as text for a scrape.
pub fn render(disk: &dyn Disk) -> String {
    let read = |name: &str| {
        let bytes = disk.read_whole(&Path::new("/proc/self").join(name), LONGEST).ok()?;
        String::from_utf8(bytes).ok()
    };
    let (stat, status, limits) = (read("stat"), read("status"), read("limits"));
    let open = disk.read_dir(Path::new("/proc/self/fd")).ok().map(|names| names.len().to_string());
    let memory = |name| Some((1024 * status_value(status.as_ref()?, name)?).to_string());
    let limit = |name| soft_limit(limits.as_ref()?, name);
    let mut text = String::new();
    for (name, kind, help, value) in [
        (
            "process_cpu_seconds_total",
            "counter",
            "CPU time used, in seconds",
            stat.and_then(|stat| cpu(&stat)),
        ),
        ("process_resident_memory_bytes", "gauge", "Resident memory", memory("VmRSS")),
        ("process_virtual_memory_bytes", "gauge", "Virtual memory", memory("VmSize")),
        ("process_virtual_memory_max_bytes", "gauge", "Limit of virtual memory", limit("Max address space")),
        ("process_open_fds", "gauge", "Open file descriptors", open),
        ("process_max_fds", "gauge", "Limit of open file descriptors", limit("Max open files")),
    ] {
        if let Some(value) = value {
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}");
        }
    }
    text
}

/// User and system time of `/proc/self/stat`. The second field, in parentheses, is a name and may hold anything.
fn cpu(stat: &str) -> Option<String> {
    let mut fields = stat.rsplit_once(") ")?.1.split(' ').skip(11);
    let mut ticks = || fields.next()?.parse::<u32>().ok().map(f64::from);
    Some(((ticks()? + ticks()?) / TICKS).to_string())
}

/// A value of `/proc/self/status`, in kB.
fn status_value(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

/// A soft limit of `/proc/self/limits`.
fn soft_limit(limits: &str, name: &str) -> Option<String> {
    let value = limits.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?;
    Some(if value == "unlimited" { "+Inf".to_owned() } else { value.parse::<u64>().ok()?.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::os;

    #[test]
    fn what_the_kernel_says_is_read() {
        let stat = "7 (a b) c) S 1 7 7 0 -1 4194560 100 0 0 0 250 17 0 0 20 0 4 0 5";
        assert_eq!(cpu(stat), Some("2.67".to_owned()));
        assert_eq!(cpu("7 (x) S 1"), None);
        assert_eq!(status_value("VmRSSx:\t1 kB\nVmRSS:\t  42 kB\n", "VmRSS"), Some(42));
        let limits = "Max open files            1024                 4096                 files\n\
                      Max address space         unlimited            unlimited            bytes\n";
        assert_eq!(soft_limit(limits, "Max open files"), Some("1024".to_owned()));
        assert_eq!(soft_limit(limits, "Max address space"), Some("+Inf".to_owned()));
        assert_eq!(soft_limit(limits, "Max nice"), None);
    }

    #[test]
    fn this_process_uses_something() {
        let text = render(&*os::host().disk);
        let samples: Vec<(&str, f64)> = text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .map(|line| line.split_once(' ').unwrap())
            .map(|(name, value)| (name, value.parse().unwrap()))
            .collect();
        assert_eq!(samples.len(), 6, "{text}");
        assert!(samples.iter().skip(1).all(|(_, value)| *value > 0.0), "{text}");
    }
}
