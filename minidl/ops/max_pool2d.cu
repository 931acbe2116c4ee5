// Max pooling: compare with MaxPool2d.naive, forward and backward in max_pool2d.py. x is (maps, H, W), y (maps, OH, OW).

// y = the largest x in each window, places = where in its map that is (h * W + v; the first of equal ones), -1 for a window of
// nothing but padding. A window with NaN gives NaN, at the place of the first.
extern "C" __global__ void max_pool(const float* x, float* y, int* places, long long size, long long H, long long W, long long KH,
                                    long long KW, long long SH, long long SW, long long PH, long long PW, long long OH,
                                    long long OW) {
    FOR_EACH(at, size) {
        long long top = at / OW % OH * SH - PH, left = at % OW * SW - PW;
        const float* map = x + at / (OW * OH) * H * W;
        float largest = __int_as_float(0xff800000);  // -infinity
        long long place = -1;
        for (long long h = max(top, 0LL); h < min(top + KH, H); ++h) {
            for (long long v = max(left, 0LL); v < min(left + KW, W); ++v) {
                float value = map[h * W + v];
                bool first_nan = value != value && largest == largest;
                if (place < 0 || value > largest || first_nan) {
                    largest = value;
                    place = h * W + v;
                }
            }
        }
        y[at] = largest;
        places[at] = (int)place;
    }
}

// dx = the sum of dy over the windows whose largest is this pixel. A thread per pixel looks at all windows that hold it.
extern "C" __global__ void max_pool_gradient(const float* dy, const int* places, float* dx, long long size, long long H,
                                             long long W, long long KH, long long KW, long long SH, long long SW, long long PH,
                                             long long PW, long long OH, long long OW) {
    FOR_EACH(at, size) {
        long long h = at / W % H + PH, v = at % W + PW;  // in the padded image
        long long map = at / (W * H) * OH * OW;
        long long first_i = first_window(h, KH, SH), last_i = last_window(h, SH, OH);
        long long first_j = first_window(v, KW, SW), last_j = last_window(v, SW, OW);
        float total = 0;
        for (long long i = first_i; i <= last_i; ++i)
            for (long long j = first_j; j <= last_j; ++j)
                if (places[map + i * OW + j] == at % (W * H)) total += dy[map + i * OW + j];
        dx[at] = total;
    }
}
