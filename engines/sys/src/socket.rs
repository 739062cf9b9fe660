//! Sockets that keep messages apart and can carry open files.

use std::{
    io,
    mem::MaybeUninit,
    os::fd::{AsRawFd, BorrowedFd, OwnedFd},
};

use crate::{
    check,
    fd::{own, wait_any},
    uninterrupted,
};

/// How many open files one message may carry.
pub const MAX_FILES: usize = 4;

/// Room for the control message that carries [`MAX_FILES`] descriptors, aligned as the kernel wants it.
#[repr(C, align(8))]
struct Control([u8; 64]);

/// One received message.
#[derive(Debug)]
pub struct Message {
    /// How many bytes of the buffer it filled. Zero means that the other side is gone.
    pub bytes: usize,
    /// The files that came with it.
    pub files: Vec<OwnedFd>,
}

/// Two ends of a connection between this process and one that it will start.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends = [0; 2];
    let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
    // SAFETY: `ends` has room for the two descriptors.
    check(unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, ends.as_mut_ptr()) })?;
    Ok((own(ends[0]), own(ends[1])))
}

/// Sends one message. It arrives whole or not at all; when the other side is gone the call fails and no signal is raised.
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8], files: &[BorrowedFd<'_>]) -> io::Result<()> {
    if files.len() > MAX_FILES {
        return Err(io::Error::other("too many files for one message"));
    }
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let mut control = Control([0; 64]);
    let mut header = empty_header(&mut part);
    if !files.is_empty() {
        let payload = u32::try_from(size_of_val(files)).map_err(io::Error::other)?;
        header.msg_control = control.0.as_mut_ptr().cast();
        // SAFETY: pure arithmetic on the size.
        header.msg_controllen = unsafe { libc::CMSG_SPACE(payload) } as _;
        // SAFETY: `control` is aligned and has room for one header and MAX_FILES descriptors, so CMSG_FIRSTHDR is not null
        // and CMSG_DATA points to enough room; descriptors are plain ints.
        unsafe {
            let first = libc::CMSG_FIRSTHDR(&raw const header);
            (*first).cmsg_level = libc::SOL_SOCKET;
            (*first).cmsg_type = libc::SCM_RIGHTS;
            (*first).cmsg_len = libc::CMSG_LEN(payload) as _;
            for (index, file) in files.iter().enumerate() {
                let number = file.as_raw_fd().to_ne_bytes();
                let place = libc::CMSG_DATA(first).add(index * number.len());
                place.copy_from_nonoverlapping(number.as_ptr(), number.len());
            }
        }
    }
    uninterrupted(|| {
        // SAFETY: the header points to buffers that live until the call returns.
        let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const header, libc::MSG_NOSIGNAL) };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    })
}

/// Receives one message; without `wait` fails with [`io::ErrorKind::WouldBlock`] when there is none.
///
/// A message that is longer than the buffer is an error, as is one that carries more files than expected.
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8], wait: bool) -> io::Result<Message> {
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let mut control = Control([0; 64]);
    let mut header = empty_header(&mut part);
    header.msg_control = control.0.as_mut_ptr().cast();
    header.msg_controllen = control.0.len() as _;
    let flags = libc::MSG_CMSG_CLOEXEC | if wait { 0 } else { libc::MSG_DONTWAIT };
    let received = uninterrupted(|| {
        // SAFETY: the header points to buffers that live until the call returns.
        let got = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, flags) };
        usize::try_from(got).map_err(|_| io::Error::last_os_error())
    })?;
    let mut files = Vec::new();
    // SAFETY: the kernel has filled the control buffer and set its length; the macros stay within it.
    unsafe {
        let mut next = libc::CMSG_FIRSTHDR(&raw const header);
        while !next.is_null() {
            if (*next).cmsg_level == libc::SOL_SOCKET && (*next).cmsg_type == libc::SCM_RIGHTS {
                let room = (*next).cmsg_len as usize - libc::CMSG_LEN(0) as usize;
                let mut number = [0_u8; size_of::<libc::c_int>()];
                for index in 0..room / number.len() {
                    let place = libc::CMSG_DATA(next).add(index * number.len());
                    number.as_mut_ptr().copy_from_nonoverlapping(place, number.len());
                    files.push(own(libc::c_int::from_ne_bytes(number)));
                }
            }
            next = libc::CMSG_NXTHDR(&raw const header, next);
        }
    }
    if header.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0 {
        return Err(io::Error::other("a message was longer than its reader expected"));
    }
    Ok(Message { bytes: received, files })
}

/// Receives one message, waiting no longer than `bound` for it.
pub fn receive_within(socket: BorrowedFd<'_>, buffer: &mut [u8], bound: std::time::Duration) -> io::Result<Message> {
    match wait_any([socket], Some(bound))? {
        [true] => receive(socket, buffer, false),
        [false] => Err(io::ErrorKind::TimedOut.into()),
    }
}

fn empty_header(part: &mut libc::iovec) -> libc::msghdr {
    // SAFETY: all fields of this C structure may be zero.
    let mut header: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    header.msg_iov = part;
    header.msg_iovlen = 1;
    header
}

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        io::{Read, Write},
        os::fd::AsFd,
    };

    use super::*;

    #[test]
    fn messages_stay_apart_and_carry_files() {
        let (here, there) = pair().expect("a pair");
        let (read, write) = crate::fd::pipe().expect("a pipe");
        send(here.as_fd(), b"one", &[write.as_fd()]).expect("sent");
        send(here.as_fd(), b"two", &[]).expect("sent");
        drop((write, here));
        let mut buffer = [0; 16];
        let mut first = receive(there.as_fd(), &mut buffer, true).expect("received");
        assert_eq!((&buffer[..first.bytes], first.files.len()), (&b"one"[..], 1));
        File::from(first.files.remove(0)).write_all(b"through").expect("written");
        let second = receive(there.as_fd(), &mut buffer, true).expect("received");
        assert_eq!((&buffer[..second.bytes], second.files.len()), (&b"two"[..], 0));
        assert_eq!(receive(there.as_fd(), &mut buffer, true).expect("the end").bytes, 0);
        let mut text = String::new();
        File::from(read).read_to_string(&mut text).expect("read");
        assert_eq!(text, "through");
    }
}
