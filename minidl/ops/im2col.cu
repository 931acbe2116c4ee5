// im2col and col2im: compare with Im2Col.naive and Col2Im.naive in im2col.py. x is (N, C, H, W), cols (N, C * KH * KW, OH * OW).

// cols[n, (c, kh, kw), (i, j)] = x[n, c, i * SH + kh - PH, j * SW + kw - PW], 0 outside the image. A thread per column element.
extern "C" __global__ void im2col(const float* x, float* cols, long long size, long long H, long long W, long long KH,
                                  long long KW, long long SH, long long SW, long long PH, long long PW, long long OH,
                                  long long OW) {
    FOR_EACH(at, size) {
        long long j = at % OW, i = at / OW % OH;
        long long kw = at / (OW * OH) % KW, kh = at / (OW * OH * KW) % KH;
        long long image_and_channel = at / (OW * OH * KW * KH);
        long long h = i * SH + kh - PH, v = j * SW + kw - PW;
        bool inside = 0 <= h && h < H && 0 <= v && v < W;
        cols[at] = inside ? x[(image_and_channel * H + h) * W + v] : 0;
    }
}

// x[n, c, h, v] = the sum of all column elements that were taken from there. A thread per pixel gathers them: as many threads as
// there are column elements, each adding to its pixel, would have to take turns, and would add in another order on every run.
extern "C" __global__ void col2im(const float* cols, float* x, long long size, long long H, long long W, long long KH,
                                  long long KW, long long SH, long long SW, long long PH, long long PW, long long OH,
                                  long long OW) {
    FOR_EACH(at, size) {
        long long v = at % W, h = at / W % H;
        long long image_and_channel = at / (W * H);
        float total = 0;
        for (long long kh = 0; kh < KH; ++kh) {
            long long row = h + PH - kh;  // i * SH, if the window at row i sees h with its kernel's row kh
            if (row < 0 || row % SH != 0 || row / SH >= OH) continue;
            for (long long kw = 0; kw < KW; ++kw) {
                long long column = v + PW - kw;
                if (column < 0 || column % SW != 0 || column / SW >= OW) continue;
                total += cols[(((image_and_channel * KH + kh) * KW + kw) * OH + row / SH) * OW + column / SW];
            }
        }
        x[at] = total;
    }
}
