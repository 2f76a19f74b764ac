import type { Entry } from "./catalogue";

/** The fifteen questions that learners ask, with their answers; `sections` says where the page shows them. */
export const questions = {
  "questions.title": { zh: "十五个问题", en: "Fifteen questions" },
  "questions.lead": {
    zh: "学 Transformer 的人最常问的。点“看”，到有证据的那张图。",
    en: "What learners of the Transformer ask most. “Look” leads to the figure with the evidence.",
  },
  "questions.look": { zh: "看", en: "look" },
  "q1": { zh: "为什么切成词元，不按字符或词？", en: "Why tokens, and not characters or words?" },
  "a1": {
    zh: "按字符太长，按词有认不得的词。词元又短又什么都拼得出。",
    en: "Characters make long rows, and words leave some unknown. Tokens are few, and can spell anything.",
  },
  "q2": { zh: "独热向量有多长？为什么不好用？", en: "How long is a one-hot vector, and why is it poor?" },
  "a2": {
    zh: "与词表一样长，不是 d_model 那么长。任意两个的余弦都是 0，看不出相近。",
    en: "As long as the vocabulary, not d_model. Any two have the cosine 0: nothing is near.",
  },
  "q3": { zh: "词嵌入为什么乘 √d_model？", en: "Why is the embedding multiplied by √d_model?" },
  "a3": {
    zh: "表里的数很小；乘过之后，词义不会被位置编码盖住。",
    en: "The table's numbers are small; after it, positions do not drown the word.",
  },
  "q4": { zh: "位置编码为什么用加的，词义不会丢吗？", en: "Why are positions added, and is the word lost?" },
  "a4": {
    zh: "加了之后，行仍与自己的词嵌入最接近；维数多，两样东西各占各的方向。若是拼接，每个矩阵都要变大。",
    en: "The row is still nearest to its own embedding: with many numbers both find room. Side by side, each matrix would have to grow.",
  },
  "q5": { zh: "为什么一定要位置编码？", en: "Why positions at all?" },
  "a5": {
    zh: "注意力只算加权和，与先后无关。没有位置，“狗咬了猫”和“猫咬了狗”是同一堆词。",
    en: "Attention is a weighted sum and knows no order. Without positions “dog bites man” and “man bites dog” are the same bag of words.",
  },
  "q6": { zh: "Q、K、V 从哪来，为什么要三个矩阵？", en: "Where do Q, K and V come from, and why three matrices?" },
  "a6": {
    zh: "同一行乘三个学来的矩阵：问什么、靠什么被找到、被找到后给出什么，是三件事。Q 和 K 分开，甲看乙才可以不同于乙看甲。",
    en: "From the same row, times three learned matrices: what it asks, what it is found by, and what it gives are three things. With Q and K apart, A may look at B otherwise than B at A.",
  },
  "q7": { zh: "为什么除以 √d_k？", en: "Why divide by √d_k?" },
  "a7": {
    zh: "d_k 个乘积相加，散布约大 √d_k 倍；不除，softmax 几乎只给一个词元 1，梯度接近 0，学不动。",
    en: "A sum of d_k products spreads √d_k times as wide; undivided, softmax gives almost all to one token, gradients vanish, and nothing is learned.",
  },
  "q8": { zh: "为什么用 softmax？", en: "Why softmax?" },
  "a8": {
    zh: "得分有正有负；softmax 都变成正的、和为 1，而且处处有坡度。",
    en: "Scores may be negative; softmax makes them positive with the sum 1, and has a slope everywhere.",
  },
  "q9": { zh: "为什么要多个头？每个头只看向量的一段吗？", en: "Why many heads? Does each see a slice of the vector?" },
  "a9": {
    zh: "一个头一次只能有一种看法，多个头可以同时有几种。每个头的 W_Q 都读整行，只有结果是分段拼接的。",
    en: "One head has one way of looking at a time, several have several. Each head's W_Q reads the whole row; only the results lie in slices.",
  },
  "q10": { zh: "掩码是 0 还是 −∞，加在哪一步？", en: "Is the mask 0 or −∞, and at which step?" },
  "a10": {
    zh: "softmax 之前加 −∞，之后恰好是 0，一行的和仍是 1。只在解码器的自注意力里挡后面的词元。",
    en: "−∞ before softmax, which is exactly 0 after it, and the row still sums to 1. It hides what lies ahead, in the decoder's self-attention alone.",
  },
  "q11": { zh: "自注意力与交叉注意力有什么不同？", en: "How do self- and cross-attention differ?" },
  "a11": {
    zh: "公式相同。自注意力的 Q、K、V 出自同一段文字；交叉注意力的 Q 出自译文，K、V 出自编码器的输出。",
    en: "The formula is the same. In self-attention Q, K and V come from one text; in cross-attention Q from the output, K and V from the encoder's rows.",
  },
  "q12": { zh: "残差连接和归一化有什么用？", en: "What are the residual connection and the norm for?" },
  "a12": {
    zh: "残差：每层只做修改，不丢已有的，梯度有直路。归一化：把每行的大小调匀，训练才稳。",
    en: "Residual: each layer only changes a row, loses nothing, and gradients have a straight way. Norm: rows keep one size, so training is steady.",
  },
  "q13": { zh: "前馈网络为什么先变宽再变窄？", en: "Why does the feed-forward network go wide and narrow again?" },
  "a13": {
    zh: "宽的内层放得下许多“如果……就……”的单元；没有中间的激活函数，两个矩阵等于一个。每一行单独算。",
    en: "The wide inner row has room for many units of “if this, then that”; without the activation two matrices are one. Each row is computed alone.",
  },
  "q14": { zh: "teacher forcing、右移、并行是怎么回事？", en: "Teacher forcing, shifted right, in parallel: how is that?" },
  "a14": {
    zh: "训练时输入正确译文右移一位，掩码挡住后面，于是所有行一次算完；翻译时没有现成的，只能一步一步写。",
    en: "In training the right output goes in, shifted by one, with what lies ahead masked, so all rows are computed at once. In translating there is none yet, so it is step by step.",
  },
  "q15": { zh: "线性层加 softmax 给出什么？总是选最可能的吗？", en: "What do linear and softmax give, and is it always the likeliest?" },
  "a15": {
    zh: "给词表里每个词元一个概率。贪心每步选最大的；束搜索比较整句，可能放弃某一步的第一名；也可以抽样。",
    en: "A probability for each token of the vocabulary. Greedy takes the likeliest each time; beam search compares whole outputs and may pass over a first place; one may also draw by chance.",
  },
} satisfies Record<string, Entry>;

/** Where each question is answered. */
export const QUESTION_SECTIONS = [
  "pieces",
  "embedding",
  "embedding",
  "positions",
  "positions",
  "head",
  "head",
  "lookup",
  "heads",
  "decoder",
  "cross",
  "addnorm",
  "feedforward",
  "decoder",
  "output",
] as const;
