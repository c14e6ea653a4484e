//! PURE. Which architecture a program is for, told from its first bytes.

/// Machine numbers of the ELF header, with Debian's names.
const MACHINES: &[(u16, &str)] =
    &[(0x3e, "amd64"), (0xb7, "arm64"), (0x28, "armhf"), (0x03, "i386"), (0xf3, "riscv64")];

/// `None` when these bytes begin no program; the words `another architecture` for one that is not known.
#[must_use]
pub fn architecture(start: &[u8]) -> Option<&'static str> {
    if !start.starts_with(b"\x7fELF") {
        return None;
    }
    let machine = start.get(18..20).map(|bytes| match start[5] {
        2 => u16::from_be_bytes([bytes[0], bytes[1]]),
        _ => u16::from_le_bytes([bytes[0], bytes[1]]),
    });
    let known = MACHINES.iter().find(|(number, _)| Some(*number) == machine);
    Some(known.map_or("another architecture", |(_, name)| name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_test_is_a_program_for_this_machine() {
        let program = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert_eq!(architecture(&program[..64]), Some(crate::update::manifest::architecture()));
        assert_eq!(architecture(b"\x7fELF"), Some("another architecture"));
        assert_eq!(architecture(b"PK\x03\x04"), None);
    }
}
