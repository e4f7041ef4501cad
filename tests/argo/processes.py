"""Pods as real processes of this machine.

A container's file system is its own; a process shares this machine's. So a folder for each pod
stands for the configured output folder, and its name is put in the place of that folder's wherever
the pod is told of it: command, arguments, environment.
"""

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.argo.pods import Pod, PodResult

__all__ = ["ProcessRunner"]


class ProcessRunner:
    """Runs a pod's command with the pod's environment and nothing else but `environment`.

    * `commands`: what stands for a container's command here, by its first word;
    * `scratch`: the pods' folders are made in it, by pod uid: outputs, `stdout`, `stderr`;
    * `output_root`: the folder in the container that outputs are written to;
    * `grace_seconds`: instead of the pod's 30, from SIGTERM to SIGKILL;
    * `on_start`: called with the pod and its process, when that has started.

    For `Workflow(run_pod=...)`. Safe to be used by several threads.
    """

    def __init__(
        self,
        commands: Mapping[str, Sequence[str]],
        scratch: Path,
        *,
        environment: Mapping[str, str] | None = None,
        output_root: str = "/tmp",
        grace_seconds: float | None = None,
        on_start: Callable[[Pod, "subprocess.Popen[bytes]"], None] | None = None,
    ) -> None:
        self.commands = commands
        self.scratch = scratch
        self.environment = dict(environment or {})
        self.output_root = output_root.rstrip("/")
        self.grace_seconds = grace_seconds
        self.on_start = on_start
        self._lock = threading.Lock()
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._timers: dict[str, threading.Timer] = {}

    def folder(self, pod: Pod) -> Path:
        """The pod's own."""
        return self.scratch / pod.uid

    def __call__(self, pod: Pod) -> PodResult:
        """Runs the pod to its end."""
        folder = self.folder(pod)
        outputs = folder / "outputs"
        outputs.mkdir(parents=True)
        first, *rest = [*pod.command, *pod.args]
        if first not in self.commands:
            raise LookupError(f"no command stands for {first!r} of {pod.node_name}")
        words = [*self.commands[first], *(self._inside(word, outputs) for word in rest)]
        environment = {k: self._inside(v, outputs) for k, v in pod.environment.items()}
        with (folder / "stdout").open("wb") as stdout, (folder / "stderr").open("wb") as stderr:
            process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                cwd=folder,
                env={**self.environment, **environment},
                start_new_session=True,
            )
            with self._lock:
                self._running[pod.uid] = process
            if pod.terminating:
                self.terminate(pod)
            if self.on_start is not None:
                self.on_start(pod, process)
            code = self._wait(pod, process)
        # A signal's number and 128, as Argo's executor has it.
        return PodResult(code if code >= 0 else 128 - code, self._outputs(pod, outputs))

    def _wait(self, pod: Pod, process: "subprocess.Popen[bytes]") -> int:
        """A container's other processes end with its first. It is not reaped before nobody can
        send it a signal any more: its number may be another's then."""
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        with self._lock:
            del self._running[pod.uid]
            timer = self._timers.pop(pod.uid, None)
            _signal(process, signal.SIGKILL)
        if timer is not None:
            timer.cancel()
        return process.wait()

    def terminate(self, pod: Pod) -> None:
        """SIGTERM, and SIGKILL when the grace period is over. Nothing if it does not run."""
        grace = pod.grace_seconds if self.grace_seconds is None else self.grace_seconds
        with self._lock:
            process = self._running.get(pod.uid)
            if process is None or pod.uid in self._timers:
                return
            timer = self._timers[pod.uid] = threading.Timer(grace, self.kill, [pod])
            timer.daemon = True
            _signal(process, signal.SIGTERM)
        timer.start()

    def kill(self, pod: Pod) -> None:
        """SIGKILL at once, as for want of memory. Nothing if it does not run."""
        with self._lock:
            if process := self._running.get(pod.uid):
                _signal(process, signal.SIGKILL)

    def stdout(self, pod: Pod) -> str:
        """What the pod has printed so far."""
        return (self.folder(pod) / "stdout").read_text()

    def stderr(self, pod: Pod) -> str:
        """What the pod has complained of so far."""
        return (self.folder(pod) / "stderr").read_text()

    def _inside(self, text: str, outputs: Path) -> str:
        """The configured folder's name, replaced; not where it only begins another name."""
        parts = text.split(self.output_root)
        found = parts[0]
        for part in parts[1:]:
            whole = not (part[:1].isalnum() or part[:1] in ("-", "_", "."))
            found += (str(outputs) if whole else self.output_root) + part
        return found

    def _outputs(self, pod: Pod, outputs: Path) -> dict[str, str]:
        """The declared files that are there, less one newline at the end."""
        found = {}
        for parameter in pod.output_parameters:
            path = (parameter.get("valueFrom") or {}).get("path", "")
            file = Path(self._inside(path, outputs))
            if path and file.is_file():
                found[parameter["name"]] = file.read_text().removesuffix("\n")
        return found


def _signal(process: "subprocess.Popen[bytes]", number: signal.Signals) -> None:
    """To its whole group, as Argo's executor sends it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)
