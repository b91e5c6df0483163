//! `/v1/agent/host`: what the machine says of itself.
//!
//! The only endpoint that looks past [`crate::env`]: it describes the real machine, and a simulated node is never
//! asked. What cannot be read is left out and named in `Errors`.

use std::fs;
use std::io;

use serde_json::{Map, Value, json};

/// Everything, as one object.
pub(super) fn collect(unix_ms: u64) -> Value {
    let mut errors = Vec::new();
    let mut part = |name: &str, collected: io::Result<Value>| {
        collected.unwrap_or_else(|error| {
            errors.push(format!("{name}: {error}"));
            Value::Null
        })
    };
    let memory = part(
        "memory",
        fs::read_to_string("/proc/meminfo").map(|t| memory(&t)),
    );
    let cpu = part("cpu", fs::read_to_string("/proc/cpuinfo").map(|t| cpu(&t)));
    let host = part("host", host(unix_ms));
    let disk = part("disk", disk("/"));
    json!({
        "Memory": memory,
        "CPU": cpu,
        "Host": host,
        "Disk": disk,
        "CollectionTime": unix_ms.saturating_mul(1_000_000),
        "Errors": if errors.is_empty() { Value::Null } else { json!(errors) },
    })
}

/// From the text of `/proc/meminfo`, in bytes.
fn memory(text: &str) -> Value {
    let field = |name: &str| -> u64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let number = line.and_then(|line| line.strip_prefix(':')?.split_whitespace().next());
        number.and_then(|n| n.parse::<u64>().ok()).unwrap_or(0) * 1024
    };
    let (total, free, available) = (field("MemTotal"), field("MemFree"), field("MemAvailable"));
    let (buffers, cached) = (field("Buffers"), field("Cached") + field("SReclaimable"));
    let used = total.saturating_sub(free + buffers + cached);
    json!({
        "total": total,
        "available": available,
        "used": used,
        "usedPercent": percent(used, total),
        "free": free,
        "active": field("Active"),
        "inactive": field("Inactive"),
        "buffers": buffers,
        "cached": cached,
        "dirty": field("Dirty"),
        "shared": field("Shmem"),
        "slab": field("Slab"),
        "committedas": field("Committed_AS"),
        "swaptotal": field("SwapTotal"),
        "swapfree": field("SwapFree"),
    })
}

/// From the text of `/proc/cpuinfo`: one object for each processor.
fn cpu(text: &str) -> Value {
    let processors = text
        .split("\n\n")
        .filter(|block| block.contains("processor"));
    let list = processors.map(|block| {
        let mut fields = Map::new();
        for line in block.lines() {
            let Some((name, value)) = line.split_once(':') else {
                continue;
            };
            let value = value.trim();
            let (name, value) = match name.trim() {
                "processor" => ("cpu", json!(value.parse::<u64>().unwrap_or(0))),
                "vendor_id" => ("vendorId", json!(value)),
                "cpu family" => ("family", json!(value)),
                "model" => ("model", json!(value)),
                "model name" => ("modelName", json!(value)),
                "stepping" => ("stepping", json!(value.parse::<u64>().unwrap_or(0))),
                "cpu cores" => ("cores", json!(value.parse::<u64>().unwrap_or(0))),
                "cpu MHz" => ("mhz", json!(value.parse::<f64>().unwrap_or(0.0))),
                _ => continue,
            };
            fields.insert(name.to_owned(), value);
        }
        Value::Object(fields)
    });
    Value::Array(list.collect())
}

fn host(unix_ms: u64) -> io::Result<Value> {
    let uptime = fs::read_to_string("/proc/uptime")?;
    let uptime = uptime.split(['.', ' ']).next().unwrap_or_default();
    let uptime: u64 = uptime.parse().map_err(io::Error::other)?;
    let processes = fs::read_dir("/proc")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .count();
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let released = |name: &str| -> String {
        let line = release.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_default().trim_matches('"').to_owned()
    };
    let system = rustix::system::uname();
    Ok(json!({
        "hostname": system.nodename().to_string_lossy(),
        "uptime": uptime,
        "bootTime": (unix_ms / 1000).saturating_sub(uptime),
        "procs": processes,
        "os": "linux",
        "platform": released("ID="),
        "platformVersion": released("VERSION_ID="),
        "kernelVersion": system.release().to_string_lossy(),
        "kernelArch": system.machine().to_string_lossy(),
    }))
}

fn disk(path: &str) -> io::Result<Value> {
    let found = rustix::fs::statvfs(path)?;
    let (total, free) = (
        found.f_blocks * found.f_frsize,
        found.f_bavail * found.f_frsize,
    );
    let used = (found.f_blocks - found.f_bfree) * found.f_frsize;
    Ok(json!({
        "path": path,
        "total": total,
        "free": free,
        "used": used,
        "usedPercent": percent(used, used + free),
        "inodesTotal": found.f_files,
        "inodesFree": found.f_ffree,
    }))
}

fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        return 0.0;
    }
    part as f64 * 100.0 / whole as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_in_bytes() {
        let text = "MemTotal:       1000 kB\nMemFree:         400 kB\nMemAvailable:    700 kB\nBuffers:         100 kB\nCached:          150 kB\nSReclaimable:     50 kB\nCachedX: 9 kB\n";
        let memory = memory(text);
        assert_eq!(memory["total"], 1_024_000);
        assert_eq!(memory["used"], 300 * 1024);
        assert_eq!(memory["usedPercent"], 30.0);
        assert_eq!(memory["swaptotal"], 0);
    }

    #[test]
    fn processors_are_listed() {
        let text = "processor\t: 0\nvendor_id\t: X\ncpu MHz\t\t: 2000.5\n\nprocessor\t: 1\nmodel name\t: Y Z\n\n";
        let cpu = cpu(text);
        assert_eq!(
            cpu,
            json!([{"cpu": 0, "vendorId": "X", "mhz": 2000.5}, {"cpu": 1, "modelName": "Y Z"}])
        );
    }

    #[test]
    fn this_machine_can_be_described() {
        let found = collect(1_700_000_000_000);
        assert_eq!(found["Errors"], Value::Null);
        assert!(found["Memory"]["total"].as_u64().unwrap() > 0);
        assert!(found["Disk"]["total"].as_u64().unwrap() > 0);
        assert_eq!(found["CollectionTime"], 1_700_000_000_000_000_000_u64);
    }
}
