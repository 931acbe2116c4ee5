// ReLU, element by element: compare with ReLU.naive, forward and backward in relu.py.

// y = max(x, 0); NaN stays NaN. x and y may be the same array.
extern "C" __global__ void relu(const float* x, float* y, long long size) {
    FOR_EACH(i, size) y[i] = x[i] > 0 || x[i] != x[i] ? x[i] : 0;
}

// dx = dy where y > 0, which is where x > 0, else 0
extern "C" __global__ void relu_gradient(const float* dy, const float* y, float* dx, long long size) {
    FOR_EACH(i, size) dx[i] = dy[i] * (y[i] > 0);
}
