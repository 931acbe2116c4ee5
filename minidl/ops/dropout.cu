// Dropout, element by element: compare with Dropout.naive in dropout.py. The mask is drawn on the host.

// y = x / (1 - p) where keep holds, else 0; scale = 1 / (1 - p). The gradient is the same map, of dy.
extern "C" __global__ void dropout(const float* x, const bool* keep, float* y, long long size, float scale) {
    FOR_EACH(i, size) y[i] = x[i] * keep[i] * scale;
}
