"""Which runtime computes the network fastest, on this processor, and does it give the same answers?

    pip install -e '.[train]' -r benchmarks/requirements.txt
    python benchmarks/runtimes.py [--run runs/fold0] [--seconds 3] [--rounds 3] [--out runtimes.csv]

Every runtime is measured in a process of its own: import and loading (ms), resident memory it adds (MiB), and images a second with one and two
threads, in batches of 1 and of 32, each as the median of several rounds. --run names a training run that held a fold out: its network is taken in
float32 and in int8 (calibrated on its training images, as `gtsrb export` does), and errors and negative log-likelihood on the held-out images are
told for each runtime but LiteRT, whose files come from Keras. Without it the network has random weights, which take as long, and there is nothing to be right or wrong about."""
import argparse, csv, json, os, statistics, subprocess, sys, tempfile, time
from pathlib import Path

import numpy as np

# name: (module, precision of the file it is given, options)
RUNTIMES = {
    "ONNX Runtime float32": ("onnxruntime", "float32", {}), "ONNX Runtime int8": ("onnxruntime", "int8", {}),
    "ONNX Runtime int8, spinning": ("onnxruntime", "int8", dict(spin="1")),
    "OpenVINO float32": ("openvino", "float32", dict(INFERENCE_PRECISION_HINT="f32")), "OpenVINO bf16": ("openvino", "float32", dict(INFERENCE_PRECISION_HINT="bf16")),
    "OpenVINO int8": ("openvino", "int8", dict(INFERENCE_PRECISION_HINT="f32")),
    "LiteRT float32": ("ai_edge_litert", "float32", {}), "LiteRT int8": ("ai_edge_litert", "int8", {}),
    "cv2.dnn float32": ("cv2", "float32", {}), "cv2.dnn int8": ("cv2", "int8", {})}

def open_onnxruntime(file, threads, spin="0"):
    import onnxruntime as ort
    o = ort.SessionOptions(); o.intra_op_num_threads = threads; o.inter_op_num_threads = 1
    o.add_session_config_entry("session.intra_op.allow_spinning", spin)
    s = ort.InferenceSession(file, o, providers=["CPUExecutionProvider"])
    return lambda x: s.run(["logits"], {"image": x})[0]

def open_openvino(file, threads, **options):
    import openvino as ov
    m = ov.Core().compile_model(file, "CPU", dict(INFERENCE_NUM_THREADS=threads, **options)); r = m.create_infer_request()
    return lambda x: r.infer({0: x}, share_inputs=True)[0]

def open_ai_edge_litert(file, threads):
    from ai_edge_litert.interpreter import Interpreter
    i = Interpreter(str(Path(file).with_suffix(".tflite")), num_threads=threads); into, out = i.get_input_details()[0]["index"], i.get_output_details()[0]["index"]
    shape = None
    def infer(x):
        nonlocal shape
        if shape != x.shape: shape = x.shape; i.resize_tensor_input(into, shape); i.allocate_tensors()
        i.set_tensor(into, x); i.invoke()
        return i.get_tensor(out)
    return infer

def open_cv2(file, threads):
    import cv2
    cv2.setNumThreads(threads); net = cv2.dnn.readNetFromONNX(file)
    def infer(x): net.setInput(x, "image"); return net.forward()
    return infer

def measure(name, folder, threads, seconds):
    "One runtime, in this process."
    module, precision, options = RUNTIMES[name]; rss = lambda: int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    x = np.load(folder / "inputs.npy"); before, begin = rss(), time.perf_counter()
    __import__(module); imported = time.perf_counter()
    infer = globals()[f"open_{module}"](str(folder / f"{precision}.onnx"), threads, **options); first = infer(x[:1]); loaded = time.perf_counter()
    found = dict(runtime=name, threads=threads, import_ms=1e3 * (imported - begin), load_ms=1e3 * (loaded - imported))
    for batch in (1, 32):
        for _ in range(5): infer(x[:batch])
        n, end = 0, (start := time.perf_counter()) + seconds
        while time.perf_counter() < end: infer(x[:batch]); n += batch
        found[f"images_s_{batch}"] = n / (time.perf_counter() - start)
    found["memory_mib"] = rss() - before
    if (folder / "labels.npy").exists() and module != "ai_edge_litert":                  # its files come from Keras, with other ranges of int8
        y, z = np.load(folder / "labels.npy"), np.concatenate([infer(x[i:i + 32]) for i in range(0, len(x), 32)])
        z = z - z.max(1, keepdims=True)
        found |= dict(errors=int((z.argmax(1) != y).sum()), nll=float((np.log(np.exp(z).sum(1)) - z[np.arange(len(y)), y]).mean()))
    return found

def write_networks(folder, run, root):
    "The network as ONNX and LiteRT, in float32 and int8, and what it is to be asked."
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow as tf
    from gtsrb.export import calibration_squares, load_run, quantise, to_onnx
    from gtsrb.train import Run, TrainConfig, load_squares, make_model, training_data
    if run:
        run = load_run(run); rows = training_data(run.config, root)[1]
        if rows is None: sys.exit("the run held nothing out")
        known, x = run.config.preprocess(calibration_squares(run, root)), run.config.preprocess(load_squares(rows, root, run.config.preprocess))
        np.save(folder / "labels.npy", rows["class"].to_numpy())
    else:
        run = Run(make_model(TrainConfig(small_epochs=0), "float32"), TrainConfig(), []); size = run.config.preprocess.size
        known = x = np.random.default_rng(0).standard_normal((256, size, size, 3)).astype(np.float32)
    np.save(folder / "inputs.npy", x)
    (folder / "float32.onnx").write_bytes(to_onnx(run.model)); (folder / "int8.onnx").write_bytes(quantise((folder / "float32.onnx").read_bytes(), known))
    for precision in ("float32", "int8"):
        c = tf.lite.TFLiteConverter.from_keras_model(run.model)
        if precision == "int8": c.optimizations, c.representative_dataset = [tf.lite.Optimize.DEFAULT], lambda: ([k[None]] for k in known[::max(1, len(known) // 300)])
        (folder / f"{precision}.tflite").write_bytes(c.convert())

def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, kind, default in (("--run", str, ""), ("--root", str, None), ("--seconds", float, 3), ("--rounds", int, 3), ("--out", str, ""), ("--one", str, ""), ("--folder", str, ""), ("--threads", int, 1)): a.add_argument(name, type=kind, default=default)
    a = a.parse_args()
    if a.one: print(json.dumps(measure(a.one, Path(a.folder), a.threads, a.seconds))); return
    rows, folder = [], Path(tempfile.mkdtemp())
    write_networks(folder, a.run, a.root)
    for _ in range(a.rounds):
        for name in RUNTIMES:
            for threads in (1, 2):
                done = subprocess.run([sys.executable, __file__, "--one", name, "--folder", folder, "--threads", str(threads), "--seconds", str(a.seconds)], capture_output=True, text=True)
                if done.returncode: print(f"{name}: {(done.stderr.strip() or 'failed').splitlines()[-1]}", file=sys.stderr); continue
                rows.append(json.loads(done.stdout.splitlines()[-1]))
    keys = list(dict.fromkeys((r["runtime"], r["threads"]) for r in rows)); figures = list(dict.fromkeys(k for r in rows for k in r if k not in ("runtime", "threads")))
    table = [dict(runtime=n, threads=t) | {f: round(statistics.median(v), 4 if f == "nll" else 1) for f in figures if (v := [r[f] for r in rows if (r["runtime"], r["threads"]) == (n, t) and f in r])} for n, t in keys]
    if a.out:
        with open(a.out, "w", newline="") as f: w = csv.DictWriter(f, ["runtime", "threads", *figures], lineterminator="\n"); w.writeheader(); w.writerows(table)
    print(f"{'runtime':30}" + "".join(f"{f:>14}" for f in ("threads", *figures)))
    for t in table: print(f"{t['runtime']:30}" + "".join(f"{t.get(f, ''):>14}" for f in ("threads", *figures)))

if __name__ == "__main__": main()
