// Stochastic gradient descent: compare with SGD.update in sgd.py. p, v and g are a parameter, its velocity and its gradient.

// p -= lr * (g + weight_decay * p)
extern "C" __global__ void sgd(float* p, const float* g, long long size, float lr, float weight_decay) {
    FOR_EACH(i, size) p[i] -= lr * (g[i] + weight_decay * p[i]);
}

// g += weight_decay * p;  v = momentum * v + g;  p -= lr * v, or with nesterov p -= lr * (g + momentum * v)
extern "C" __global__ void sgd_with_momentum(float* p, float* v, const float* g, long long size, float lr, float momentum,
                                             float weight_decay, bool nesterov) {
    FOR_EACH(i, size) {
        float slope = g[i] + weight_decay * p[i];
        v[i] = momentum * v[i] + slope;
        p[i] -= lr * (nesterov ? slope + momentum * v[i] : v[i]);
    }
}
