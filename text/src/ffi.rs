//! What every function of the C ABI is made of: owned buffers, errors, and the guard that lets no
//! panic unwind into C++.
use std::cell::RefCell;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::slice;
use std::sync::Once;

/// The values of `tt_status` in tandem_text.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Code {
    Ok = 0,
    Argument = -1,
    Parse = -2,
    Template = -3,
    Raised = -4,
    Limit = -5,
    Panic = -100,
}

pub struct Fail {
    pub code: Code,
    pub message: String,
}

pub type Outcome<T> = Result<T, Fail>;

pub fn fail<T>(code: Code, message: impl Into<String>) -> Outcome<T> {
    Err(Fail { code, message: message.into() })
}

/// A vector handed to C: `tt_bytes` for u8 and `tt_ids` for u32. Freed by the matching function.
#[repr(C)]
pub struct Buffer<T> {
    pub ptr: *mut T,
    pub len: usize,
    pub capacity: usize,
}

impl<T> Buffer<T> {
    pub fn fill(&mut self, values: Vec<T>) {
        let mut values = std::mem::ManuallyDrop::new(values);
        *self = Buffer { ptr: values.as_mut_ptr(), len: values.len(), capacity: values.capacity() };
    }

    /// # Safety
    /// The buffer is zeroed, or was filled by `fill` and not freed since.
    pub unsafe fn free(buffer: *mut Self) {
        let Some(buffer) = buffer.as_mut() else { return };
        if !buffer.ptr.is_null() {
            drop(Vec::from_raw_parts(buffer.ptr, buffer.len, buffer.capacity));
        }
        *buffer = Buffer { ptr: std::ptr::null_mut(), len: 0, capacity: 0 };
    }
}

/// An object that C++ holds by pointer. A shared one never changes. One that a thread owns may be
/// half changed once a call on it has panicked: every later call on it fails.
pub struct Handle<T> {
    value: T,
    poisoned: bool,
}

impl<T> Handle<T> {
    pub fn into_raw(value: T) -> *mut Self {
        Box::into_raw(Box::new(Handle { value, poisoned: false }))
    }
}

thread_local! {
    static PANICKED_AT: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Keeps where a panic was for `guard`. Not its text, which may quote a prompt and would be logged.
fn note_place(info: &std::panic::PanicHookInfo<'_>) {
    let place = info.location().map(|at| format!("{}:{}", at.file(), at.line()));
    PANICKED_AT.with(|kept| *kept.borrow_mut() = place);
}

fn panic_text() -> String {
    let place = PANICKED_AT.with(|kept| kept.borrow_mut().take());
    format!("panic at {}", place.as_deref().unwrap_or("an unknown place"))
}

/// Runs `call` and turns its error or its panic into a status and a message in `*error`.
pub fn guard(error: *mut Buffer<u8>, call: impl FnOnce() -> Outcome<()>) -> i32 {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| std::panic::set_hook(Box::new(note_place)));
    let failure = match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(())) => return Code::Ok as i32,
        Ok(Err(failure)) => failure,
        Err(_) => Fail { code: Code::Panic, message: panic_text() },
    };
    // SAFETY: null or a zeroed buffer of the caller's, as tandem_text.h demands.
    if let Some(error) = unsafe { error.as_mut() } {
        error.fill(failure.message.into_bytes());
    }
    failure.code as i32
}

/// `guard` for a call on a shared object. A panic fails this call only.
///
/// # Safety
/// `handle` is null or points to a live object.
pub unsafe fn guard_shared<T>(
    handle: *const Handle<T>,
    error: *mut Buffer<u8>,
    call: impl FnOnce(&T) -> Outcome<()>,
) -> i32 {
    guard(error, || call(inside(handle)?))
}

/// `guard` for a call on an object that one thread owns.
///
/// # Safety
/// `handle` is null or points to a live object that no other thread uses.
pub unsafe fn guard_owned<T>(
    handle: *mut Handle<T>,
    error: *mut Buffer<u8>,
    call: impl FnOnce(&mut T) -> Outcome<()>,
) -> i32 {
    let status = guard(error, || {
        let handle = exclusive(handle)?;
        if handle.poisoned {
            return fail(Code::Panic, "an earlier call on this object panicked");
        }
        call(&mut handle.value)
    });
    if status == Code::Panic as i32 {
        if let Some(handle) = handle.as_mut() {
            handle.poisoned = true;
        }
    }
    status
}

/// # Safety
/// `handle` is null or points to a live object; it is gone afterwards.
pub unsafe fn free<T>(handle: *mut Handle<T>) {
    if !handle.is_null() {
        guard(std::ptr::null_mut(), || {
            drop(Box::from_raw(handle));
            Ok(())
        });
    }
}

/// # Safety
/// `pointer` is null or readable for the whole call.
pub unsafe fn shared<'a, T>(pointer: *const T) -> Outcome<&'a T> {
    pointer.as_ref().ok_or(Fail { code: Code::Argument, message: "null handle".into() })
}

/// The shared object behind `handle`.
///
/// # Safety
/// `handle` is null or points to a live object.
pub unsafe fn inside<'a, T>(handle: *const Handle<T>) -> Outcome<&'a T> {
    Ok(&shared(handle)?.value)
}

/// # Safety
/// `pointer` is null or writable, by this caller alone, for the whole call.
pub unsafe fn exclusive<'a, T>(pointer: *mut T) -> Outcome<&'a mut T> {
    pointer.as_mut().ok_or(Fail { code: Code::Argument, message: "null pointer".into() })
}

/// # Safety
/// `pointer` is readable for `len` elements, or `len` is 0.
pub unsafe fn view<'a, T>(pointer: *const T, len: usize) -> Outcome<&'a [T]> {
    if len == 0 {
        return Ok(&[]); // an empty string_view of C++ has a null pointer
    }
    if pointer.is_null() || len > isize::MAX as usize / std::mem::size_of::<T>() {
        return fail(Code::Argument, "a null pointer with a length, or a length beyond memory");
    }
    Ok(slice::from_raw_parts(pointer, len))
}

/// # Safety
/// `pointer` is writable, by this caller alone, for `len` elements.
pub unsafe fn view_mut<'a, T>(pointer: *mut T, len: usize) -> Outcome<&'a mut [T]> {
    if pointer.is_null() || len > isize::MAX as usize / std::mem::size_of::<T>() {
        return fail(Code::Argument, "a null pointer, or a length beyond memory");
    }
    Ok(slice::from_raw_parts_mut(pointer, len))
}

/// # Safety
/// `pointer` is readable for `len` bytes, or `len` is 0.
pub unsafe fn text<'a>(pointer: *const u8, len: usize) -> Outcome<&'a str> {
    match std::str::from_utf8(view(pointer, len)?) {
        Ok(text) => Ok(text),
        Err(e) => fail(Code::Argument, format!("not UTF-8 at byte {}", e.valid_up_to())),
    }
}
