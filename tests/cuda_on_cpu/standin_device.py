"""The machine behind the stand-in for CuPy: who waits for the device, its memory, its streams, what it says of itself."""
import time
from contextlib import contextmanager

TOTAL_BYTES = 8 << 30
NAME = b"stand-in (no GPU)"


# --- who waits -----------------------------------------------------------------------------------------------------


class Synchronisations:
    """How often the host has waited for the device to read a value, and where; waiting without reading is counted apart."""

    def __init__(self):
        self.count, self.places = 0, []
        self.waits = 0  # Device().synchronize() and the like: they stop the pipeline, too, but nobody calls them by accident

    def add(self, place):
        self.count += 1
        self.places.append(place)


synchronisations = Synchronisations()
_counters = [synchronisations]


@contextmanager
def counting():
    """`with counting() as syncs:` counts in `syncs` what happens inside of the block."""
    counter = Synchronisations()
    _counters.append(counter)
    try:
        yield counter
    finally:
        _counters.remove(counter)


def count_read(place):
    for counter in _counters:
        counter.add(place)


def count_wait():
    for counter in _counters:
        counter.waits += 1


# --- memory --------------------------------------------------------------------------------------------------------


class MemoryPool:
    """The bytes of all living arrays that own their memory, in units of 512 as CuPy counts them."""

    def __init__(self):
        self._used = self._held = 0

    def used_bytes(self):
        return self._used

    def free_bytes(self):
        return self._held - self._used

    def total_bytes(self):
        return self._held

    def free_all_blocks(self):
        self._held = self._used


pool = MemoryPool()


def allocate(nbytes):
    """An array that owns this much has come into being."""
    pool._used += -(-nbytes // 512) * 512
    pool._held = max(pool._held, pool._used)


def release(nbytes):
    """It is gone."""
    pool._used -= -(-nbytes // 512) * 512


class MemoryPointer:
    """Where an array's first element is."""

    def __init__(self, ptr):
        self.ptr = ptr
        self.device = Device(0)
        self.device_id = 0


# --- devices, streams, events --------------------------------------------------------------------------------------


class Device:
    """The only device. A context manager, as in CuPy."""

    def __init__(self, device=None):
        self.id = 0 if device is None else int(device)
        if self.id != 0:
            raise CUDARuntimeError(f"cudaErrorInvalidDevice: invalid device ordinal {self.id}")

    compute_capability = "00"
    mem_info = property(lambda self: (TOTAL_BYTES - pool.total_bytes(), TOTAL_BYTES))

    def use(self):
        return self

    def synchronize(self):
        count_wait()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return None

    def __int__(self):
        return self.id

    def __eq__(self, other):
        return isinstance(other, Device) and self.id == other.id

    def __hash__(self):
        return hash(self.id)

    def __repr__(self):
        return f"<CUDA Device {self.id}>"


class CUDARuntimeError(RuntimeError):
    """What the driver refuses."""


class Stream:
    """Work is done when it is called for: a stream has nothing left to wait for."""

    done = True

    def __init__(self, null=False, non_blocking=False, ptds=False):
        self.ptr = 0

    def use(self):
        return self

    def synchronize(self):
        count_wait()

    def record(self, event=None):
        event = Event() if event is None else event
        event.record(self)
        return event

    def wait_event(self, event):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return None


Stream.null = Stream(null=True)


class Event:
    """A moment."""

    def __init__(self, block=False, disable_timing=False, interprocess=False):
        self.seconds = None

    done = property(lambda self: True)

    def record(self, stream=None):
        self.seconds = time.perf_counter()

    def synchronize(self):
        count_wait()


def get_elapsed_time(start_event, end_event):
    """Milliseconds between two recorded events."""
    if start_event.seconds is None or end_event.seconds is None:
        raise CUDARuntimeError("cudaErrorInvalidResourceHandle: an event was not recorded")
    return 1000 * (end_event.seconds - start_event.seconds)


class CompileException(Exception):  # noqa: N818  CuPy's name
    """CUDA C that does not compile: the message of the compiler, and the source."""

    def __init__(self, msg, source, name, options, backend="nvrtc"):
        super().__init__(msg)
        self._msg, self.source, self.name, self.options, self.backend = msg, source, name, options, backend

    def get_message(self):
        return self._msg

    def __str__(self):
        return self._msg


def _get_device_properties(device):
    Device(device)
    return {"name": NAME, "major": 0, "minor": 0, "totalGlobalMem": TOTAL_BYTES, "multiProcessorCount": 1,
            "sharedMemPerBlock": 48 << 10, "maxThreadsPerBlock": 1024, "warpSize": 32}


# what cupy.cuda.runtime and cupy.cuda hold
RUNTIME = dict(
    getDeviceCount=lambda: 1, getDevice=lambda: 0, getDeviceProperties=_get_device_properties,
    memGetInfo=lambda: (TOTAL_BYTES - pool.total_bytes(), TOTAL_BYTES), driverGetVersion=lambda: 13000,
    runtimeGetVersion=lambda: 13000, deviceSynchronize=count_wait, CUDARuntimeError=CUDARuntimeError,
)
COMPILER = dict(CompileException=CompileException)
CUDA = dict(
    is_available=lambda: True, Device=Device, Stream=Stream, Event=Event, get_current_stream=lambda: Stream.null,
    get_device_id=lambda: 0, get_elapsed_time=get_elapsed_time,
)
