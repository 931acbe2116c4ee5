// Average pooling: compare with AvgPool2d.naive, forward and backward in avg_pool2d.py. x is (maps, H, W), y (maps, OH, OW), and
// divisor (OH, OW) says how many places of each window count.

// y = the sum of x in each window / divisor
extern "C" __global__ void avg_pool(const float* x, const float* divisor, float* y, long long size, long long H, long long W,
                                    long long KH, long long KW, long long SH, long long SW, long long PH, long long PW,
                                    long long OH, long long OW) {
    FOR_EACH(at, size) {
        long long top = at / OW % OH * SH - PH, left = at % OW * SW - PW;
        const float* map = x + at / (OW * OH) * H * W;
        float total = 0;
        for (long long h = max(top, 0LL); h < min(top + KH, H); ++h)
            for (long long v = max(left, 0LL); v < min(left + KW, W); ++v) total += map[h * W + v];
        y[at] = total / divisor[at % (OW * OH)];
    }
}

// dx = the sum of dy / divisor over the windows that hold this pixel
extern "C" __global__ void avg_pool_gradient(const float* dy, const float* divisor, float* dx, long long size, long long H,
                                             long long W, long long KH, long long KW, long long SH, long long SW, long long PH,
                                             long long PW, long long OH, long long OW) {
    FOR_EACH(at, size) {
        long long h = at / W % H + PH, v = at % W + PW;  // in the padded image
        long long map = at / (W * H) * OH * OW;
        long long first_i = first_window(h, KH, SH), last_i = last_window(h, SH, OH);
        long long first_j = first_window(v, KW, SW), last_j = last_window(v, SW, OW);
        float total = 0;
        for (long long i = first_i; i <= last_i; ++i)
            for (long long j = first_j; j <= last_j; ++j) total += dy[map + i * OW + j] / divisor[i * OW + j];
        dx[at] = total;
    }
}
