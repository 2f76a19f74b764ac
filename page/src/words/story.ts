import type { Entry } from "./catalogue";

/** The text of each section, in the order of the article. */
export const story = {
  "result.title": { zh: "结果", en: "The result" },
  "result.lead": {
    zh: "除了第 4 节的两张小表，下面每一个数都是模型处理**这句话**时真正算出来的，不是示意用的假数。点任意一个格子，右边（手机上在底部）会写出它是由哪些数算成的，并在浏览器里重算一遍给你看。",
    en: "Except for the two small tables of section 4, every number on this page is what the model really computed for **this sentence**. Choose any cell, and the panel (on a phone at the bottom) writes out which numbers it is made of, and computes it again before your eyes.",
  },
  "result.translates": {
    zh: (source: number, target: number) => `模型分两半：编码器读原文，解码器写译文。它读入 ${source} 个词元（词的碎片，见第 1 节；连特殊词元在内），再一个接一个地写出 ${target} 个。颜色越深，模型越拿不准。`,
    en: (source: number, target: number) => `The model has two halves: the encoder reads the text, the decoder writes the translation. It read ${source} tokens (pieces of words, see section 1; special ones included). Then it wrote ${target}, one after the other. The stronger the colour, the less sure it was.`,
  },
  "result.continues": {
    zh: (given: number, written: number) => `这个模型只有解码器：接着给它的文字往下写。给了它 ${given} 个词元（词的碎片，见第 1 节），它一个接一个地又写了 ${written} 个。下面是每个词元后面跟着的那个词元：灰色的是给定的，其余是它自己写的。颜色越深，模型越没想到。`,
    en: (given: number, written: number) => `This model is a decoder alone: it goes on with a text. It was given ${given} tokens (pieces of words, see section 1) and wrote ${written} more, one after the other. Here is what follows each token: grey ones were given, the others are its own. The stronger the colour, the less it expected the token.`,
  },
  "result.encodes": {
    zh: (source: number, d: number) => `模型读入 ${source} 个词元，给每个词元算出一行 ${d} 个数。它只有编码器：分析文字，不写文字。`,
    en: (source: number, d: number) => `The model read ${source} tokens and made a row of ${d} numbers for each. It is an encoder alone: it analyses text and writes none.`,
  },
  "result.rows": {
    zh: "每个位置上，模型认为最可能的词元：",
    en: "At each position, the token that the model finds likeliest:",
  },
  "result.sure": {
    zh: "总的来说很有把握",
    en: "On the whole: sure",
  },
  "result.fair": {
    zh: "总的来说有些把握",
    en: "On the whole: fairly sure",
  },
  "result.unsure": {
    zh: "总的来说没有把握，这句译文不可轻信",
    en: "On the whole: unsure; do not trust this one",
  },
  "result.mean": {
    zh: (p: string, lowest: string, token: string) => `写每个词元时平均有 ${p} 的把握（概率的几何平均）；最没把握的是 ${token}，只有 ${lowest}。`,
    en: (p: string, lowest: string, token: string) => `It was ${p} sure of a token on average (the geometric mean of their probabilities), and least sure of ${token}: ${lowest}.`,
  },
  "result.unfinished": {
    zh: "译文在写到结束符之前就达到了长度上限。",
    en: "The output reached its longest length before its end token.",
  },
  "result.sentences": {
    zh: (n: number, which: number) => `原文有 ${n} 句，这一页讲第 ${which} 句。`,
    en: (n: number, which: number) => `The text has ${n} sentences; this page is about number ${which}.`,
  },
  "result.model": { zh: "模型", en: "Model" },
  "result.exact": { zh: "数据精度", en: "How exact" },
  "result.numbers": {
    zh: (n: string) => `${n} 个训练出来的数`,
    en: (n: string) => `${n} numbers that were trained`,
  },
  "result.classes": { zh: "模型给出的分类", en: "What the model says" },

  "pieces.title": { zh: "切成词元", en: "Text into tokens" },
  "pieces.lead": {
    zh: "模型不认识文字，只认识编号。所以先把句子切成**词元**：通常比字符长、比词短，也可能正好是一个字或一个词。每个词元在词表里有一个编号。",
    en: "A model knows no letters, only numbers. So the sentence is cut into **tokens**: usually longer than a character and shorter than a word, but a token may also be just one of them. Each has a number in the vocabulary, the list of all tokens.",
  },
  "pieces.why": {
    zh: "为什么不一个字符一个编号？用字母书写的语言，那样一行会太长，而单个字母几乎不带含义（中文的情形见下）。为什么不一个词一个编号？词太多了，没见过的新词、错字、人名就没有编号。词元取两者之间：常见的词是一整块，少见的词由几块拼成，什么都拼得出来。中文的字本身就有含义，词表不大时，常常一个字就是一个词元。",
    en: "Why not a number for each character? Sentences would become long, and a letter alone means little. Why not one for each word? There are too many, and a new name or a slip of the pen would have none. Tokens lie between: frequent words are whole, rare ones are spelled by several, so that any text can be written. Chinese characters mean something by themselves, so in a small vocabulary many of them are tokens.",
  },
  "pieces.ways": {
    zh: (characters: number, tokens: number, all: number) => `同一句话：${characters} 个字符，切成 ${tokens} 个词元，加上特殊词元共 ${all} 个。`,
    en: (characters: number, tokens: number, all: number) => `The same sentence: ${characters} characters, cut into ${tokens} tokens; with the special ones ${all}.`,
  },
  "pieces.table": {
    zh: "词元、编号，以及词表里还有哪些项含有它的文字",
    en: "Tokens, their numbers, and where else in the vocabulary their text stands",
  },
  "pieces.shared": {
    zh: (count: number, examples: string) => `${count ? `词表里还有 ${count} 项含有这段文字，例如 ${examples}` : '词表里没有别的项含有这段文字'}`,
    en: (count: number, examples: string) => `${count ? `in ${count} other entries of the vocabulary, such as ${examples}` : 'in no other entry of the vocabulary'}`,
  },
  "pieces.signs": {
    zh: "`▁`（有的模型用 `Ġ`）表示前面是空格或句首，`##` 表示接在前一块后面。灰色的是特殊词元：`</s>` 或 `[SEP]` 是句子结束；形如 `>>de<<` 的告诉模型译成哪种语言。形如 `<0xE4>` 的是一个字节：少见的字由几个词元拼成。",
    en: "`▁` (in some models `Ġ`) stands for a space before it, or the start of the sentence; `##` goes on from the piece before. Grey ones are special: `</s>` or `[SEP]` ends the sentence, and one like `>>de<<` tells the model which language to write. One like `<0xE4>` is a byte: rare characters are spelled by several tokens.",
  },

  "embedding.title": { zh: "从独热到词嵌入", en: "From one-hot to embedding" },
  "embedding.lead": {
    zh: (size: string) => `编号本身没有含义：编号挨着，不等于词义相近。把编号写成**独热**向量，词表有多少项，它就有多少个数，这里是 ${size} 个：一个 1，其余都是 0。任意两个不同的独热向量，余弦（1 是同向，0 是无关）都是 0，看不出谁和谁相近。`,
    en: (size: string) => `A number means nothing by itself: neighbours in the list need not be alike. Written as a **one-hot** vector, it has as many numbers as the vocabulary has tokens, here ${size}: a single 1, all else 0. The cosine (1 is the same direction, 0 is unrelated) of any two of them is 0, so nothing is near to anything.`,
  },
  "embedding.table": {
    zh: (rows: string, width: number) => `所以有一张训练出来的表，${rows} 行，每行 ${width} 个数（这个 ${width} 就叫 d_model）。独热向量乘这张表，就是取出其中一行：这一行就是词元的**词嵌入**。乘法不必真做，查表即可，结果完全一样。`,
    en: (rows: string, width: number) => `So there is a table that was learned: ${rows} rows of ${width} numbers (this ${width} is called d_model). A one-hot vector times this table is one of its rows, the token's **embedding**. Nobody does the product: looking the row up gives the same numbers.`,
  },
  "embedding.row": {
    zh: (token: string) => `${token} 的词嵌入（乘过 √d_model）`,
    en: (token: string) => `The embedding of ${token} (times √d_model)`,
  },
  "embedding.rowPlain": {
    zh: (token: string) => `${token} 的词嵌入`,
    en: (token: string) => `The embedding of ${token}`,
  },
  "embedding.near": {
    zh: "表中方向最接近的行",
    en: "Rows of the table whose directions are nearest",
  },
  "embedding.nearText": {
    zh: "意思或用法相近的词元，训练之后方向也相近；也有凑巧的，可见并不完美。几种语言共用一张词表时，别的语言里意思相同的词也会在这里。",
    en: "Tokens that mean or do the same have come to point in like directions in training; some are there by chance. Where several languages share a vocabulary, words of the others that mean the same turn up too.",
  },
  "embedding.scale": {
    zh: (norm: string, scaled: string, position: string) => `为什么乘 √d_model？第 3 节要给这一行加上一个表示位置的向量，它的长度（各数平方和的平方根）是 ${position}，而这一行只有 ${norm}：不乘，位置就会盖过词义；乘过之后是 ${scaled}。`,
    en: (norm: string, scaled: string, position: string) => `Why times √d_model? Section 3 adds a vector for the position to this row. That one's length (the root of the sum of its squares) is ${position}, this row's only ${norm}: position would drown the word. Multiplied, the row's is ${scaled}.`,
  },
  "embedding.noScale": {
    zh: (norm: string) => `这个模型不乘 √d_model。这一行的长度是 ${norm}。`,
    en: (norm: string) => `This model does not multiply by √d_model. The row's length is ${norm}.`,
  },

  "positions.title": { zh: "位置编码", en: "Positions" },
  "positions.lead": {
    zh: "注意力同时看所有词元，本身分不出先后。如果不加位置，把句子打乱以后，每个词元算出来的那一行数仍和打乱前一模一样。这样先后顺序就丢了，“狗咬人”和“人咬狗”没有分别。所以给每一行再加一个只由**位置**（从 0 数起）决定的向量。",
    en: "Attention sees all tokens at once and cannot tell which came first: without positions, each token would keep exactly its row however the sentence is shuffled, and “dog bites man” would be “man bites dog”. So a vector that depends on the **position** alone (counted from 0) is added to each row.",
  },
  "positions.waves": {
    zh: "每一列是一条波：有的变得快，有的变得慢，就像钟的秒针、分针和时针。合起来看，每个位置的读数都不同。而且无论从哪里出发，往后移 k 位，指针转过的角度都一样，所以容易算出相隔几位。",
    en: "Each column is a wave, fast on one side and ever slower towards the other, like the hands of a clock. Together they read differently at each position. And wherever one starts, going on by k positions turns a hand by the same angle, so distances are easy to tell.",
  },
  "positions.learned": {
    zh: "这个模型的位置向量不是公式算的，而是训练学来的一张表。",
    en: "In this model positions are no formula but another table that was learned.",
  },
  "positions.relative": {
    zh: "这个模型把一个由两个词元的距离决定的数直接加进注意力的得分里。",
    en: "This model adds a number for the distance of two tokens to the scores of attention.",
  },
  "positions.relativeAlone": {
    zh: "注意力同时看所有词元，本身分不出先后。这个模型不给行加任何位置向量，而是在每一层算注意力得分时，加上一个只由两个词元**相隔多远**、谁在前决定的数（相对位置，T5）。",
    en: "Attention sees all tokens at once and cannot tell which came first. This model adds no vector to the rows. In each layer it adds to the scores of attention a number that depends on nothing but **how far apart** two tokens are, and which comes first (relative positions, T5).",
  },
  "positions.relativeCurve": {
    zh: (head: number) => `第 ${head} 头：按距离（键的位置减查询的位置）加上的数`,
    en: (head: number) => `Head ${head}: the number added at each distance (the key's position minus the query's)`,
  },
  "positions.relativeText": {
    zh: "这些数是训练学来的，所有层共用一套。近的距离各有各的数，远的距离按对数合成几组，共用一个数，所以比训练时见过的更长的文字也能算。",
    en: "These numbers were learned, one set for all layers. Near distances have a number each; far ones share them in groups that grow with the logarithm, so that texts longer than any of the training can be computed.",
  },
  "positions.rotary": {
    zh: "注意力同时看所有词元，本身分不出先后。这个模型不给行加任何位置向量，而是在每一层里把每个查询和每个键**转一个角**：它们的数两两成对，每一对是一根指针，在位置 p 上转过 p 乘以这一对自己的角 θ（旋转位置编码，RoPE）。于是查询和键各在哪里，对点积来说只剩下相隔多远：两边多转同样的角，点积不变。值不转。",
    en: "Attention sees all tokens at once and cannot tell which came first. This model adds nothing to the rows. Instead each query and each key is **turned** in every layer: its numbers form pairs, a pair is the hand of a clock, and at position p the hand is turned by p times an angle θ of its own (rotary positions, RoPE). Where the two stand then matters to the product of a query and a key only by how far apart they are: turning both further by the same angle changes nothing. Values are not turned.",
  },
  "positions.still": {
    zh: (n: number, all: number) => `${all} 层中有 ${n} 层不转：那里的注意力不知道位置。`,
    en: (n: number, all: number) => `Of ${all} layers, ${n} do not turn: attention knows no positions there.`,
  },
  "positions.angles": {
    zh: "每个位置上，各对转过的角的余弦：左边转得快，右边转得慢",
    en: "The cosine of each pair's angle at each position: fast pairs at the left, slow ones at the right",
  },
  "positions.turnedDistance": {
    zh: "转之前相同的查询和键，相隔 k 位之后的点积（各对的余弦之和）",
    en: "Product of a query and a key that were equal before they were turned, k positions apart (the sum of the cosines)",
  },
  "positions.before": {
    zh: (token: string, layer: number, head: number) => `${token} 的查询（第 ${layer} 层第 ${head} 头），转之前`,
    en: (token: string, layer: number, head: number) => `The query of ${token} (layer ${layer}, head ${head}) before it is turned`,
  },
  "positions.after": {
    zh: (place: number) => `在位置 ${place} 转过之后`,
    en: (place: number) => `Turned for position ${place}`,
  },
  "positions.pair": {
    zh: (half: number) => `第 i 个数与第 i + ${half} 个数是一对。`,
    en: (half: number) => `Number i and number i + ${half} are a pair.`,
  },
  "positions.yarn": {
    zh: "为了读更长的文字，这个模型把转过的数再乘一个常数（YaRN）。",
    en: "For longer texts this model also multiplies what is turned by a constant (YaRN).",
  },
  "positions.sum": {
    zh: (token: string, place: number) => `${token} 在位置 ${place}：词嵌入 + 位置编码 = 进入第一层的行`,
    en: (token: string, place: number) => `${token} at position ${place}: embedding + position = the row that the first layer is given`,
  },
  "positions.added": {
    zh: (kept: number, all: number) => `加上去，词义会不会丢？量一量：加了位置之后，${all} 个词元里有 ${kept} 个仍与自己的词嵌入最接近（只在这句话的词元中比较）。`,
    en: (kept: number, all: number) => `Is the word lost when something is added? Look: of ${all} tokens, ${kept} are still nearest to their own embedding afterwards (among the tokens of this sentence).`,
  },
  "positions.distance": {
    zh: "位置 0 与位置 k 的点积（逐项相乘再相加）：只看相隔多远",
    en: "Dot product (products of their numbers, summed) of position 0 and position k: it depends on the distance alone",
  },

  "lookup.title": { zh: "注意力就是查表", en: "Attention is a look-up" },
  "lookup.lead": {
    zh: "先不看模型，看一张小表：知道几个人的身高和体重，想估计一个身高 168 的人的体重。表里没有 168，怎么办？跟谁像，就多听谁的：**查询**（168）与每个**键**（身高）比一比，越像，权重越大；越不像，权重越小；权重之和是 1。再把**值**（体重）按权重加起来。",
    en: "Leave the model for a moment and look at a small table: the heights and weights of some people. How heavy is somebody of 168 cm? The table has no 168. So listen more to those who are alike: compare the **query** (168) with each **key** (a height), turn likeness into weights that sum to 1, and add up the **values** (kilograms) by these weights.",
  },
  "lookup.formula": {
    zh: "权重 = softmax(−(查询−键)²/2σ²)。σ 越小，越像真的查表：只听最像的一个；σ 越大，越像求平均。",
    en: "weight = softmax(−(query−key)²/2σ²). The smaller σ, the more it is a plain look-up that hears the nearest alone; the larger, the more a mean.",
  },
  "lookup.two": {
    zh: "再给键添一个数（腰围），给值也添一个数（腿长），公式照用。模型里做的就是这个，只有两点不同：键和值有几十个数；“像不像”不用距离，用查询与键的点积，再除以 √d_k（d_k 是键有几个数；它的作用与上面的 σ 相当）。查询、键、值，都由词元自己的行乘三个训练出来的矩阵得到。",
    en: "Give each key a second number (the waist) and each value too (the leg): the same formula does. That is what the model does, with two differences. Keys and values have some dozens of numbers; and likeness is no distance but the dot product of query and key, divided by √d_k (d_k is how many numbers a key has). This divisor does what σ does above. Query, key and value come from a token's own row, times three matrices that were learned.",
  },
  "lookup.height": { zh: "身高 cm", en: "height, cm" },
  "lookup.waist": { zh: "腰围 cm", en: "waist, cm" },
  "lookup.weight": { zh: "体重 kg", en: "weight, kg" },
  "lookup.leg": { zh: "腿长 cm", en: "leg, cm" },
  "lookup.share": { zh: "注意力权重", en: "attention weight" },
  "lookup.query": { zh: "查询", en: "query" },
  "lookup.answer": { zh: "答案", en: "answer" },
  "lookup.width": { zh: "宽度 σ", en: "width σ" },
  "lookup.dimensions": { zh: "键的维数", en: "numbers of a key" },
  "lookup.softmax": {
    zh: "softmax 先把每个得分 x 换成 eˣ（总是正数），再各自除以这些数的总和。为什么用它？不论得分是正是负，它都变成正的权重，和为 1。得分直接除以得分的总和不行：得分有负的，权重就会是负的。只取最大的也不行：输出是跳变的，没有可以顺着改进的方向，没法训练。",
    en: "Softmax makes eˣ of each score x (always positive), then divides by the sum of these. Why? Whatever the scores, their weights are positive, with the sum 1. Dividing the scores themselves by their sum fails: some are negative, and so would be their weights. Taking the largest alone jumps, and leaves training no slope to follow.",
  },
  "lookup.ways": {
    zh: "同一行得分，三种算法",
    en: "One row of scores, three ways",
  },
  "lookup.plain": { zh: "直接除以总和", en: "divided by the sum" },
  "lookup.argmax": { zh: "只取最大", en: "the largest alone" },
  "lookup.soft": { zh: "softmax", en: "softmax" },

  "head.title": { zh: "一个头，一步一步", en: "One head, step by step" },
  "head.lead": {
    zh: (half: string, layer: number, head: number) => `${half}第 ${layer} 层第 ${head} 头，在同一张表上走五步。softmax 之前的一步是掩码：不许看的，得分换成 −∞。`,
    en: (half: string, layer: number, head: number) => `${half}, layer ${layer}, head ${head}: five steps on one table. The step before softmax is the mask: what may not be seen gets the score −∞.`,
  },
  "head.raw": { zh: "Q·Kᵀ", en: "Q·Kᵀ" },
  "head.scaled": { zh: "÷√d_k", en: "÷√d_k" },
  "head.masked": { zh: "掩码", en: "mask" },
  "head.weights": { zh: "softmax", en: "softmax" },
  "head.blend": { zh: "Σ α·V", en: "Σ α·V" },
  "head.rawText": {
    zh: "每个词元的行乘 W_Q 得到查询，乘 W_K 得到键。每格是这一行的查询与这一列的键的点积：越大越“像”。",
    en: "Each token's row times W_Q is its query, times W_K its key. A cell is the dot product of the row's query and the column's key: the larger, the more alike.",
  },
  "head.scaledText": {
    zh: (dk: number, deviation: string) => `为什么除以 √d_k？点积是 d_k 个乘积之和（d_k 是每个键有几个数，这里是 ${dk}），项数越多，起伏越大：约是单个乘积的 √${dk} = ${Math.sqrt(dk).toFixed(0)} 倍。不除，softmax 会把几乎全部权重给一个词元，训练就学不动了。除过之后，这个头的得分的标准差是 ${deviation}。`,
    en: (dk: number, deviation: string) => `Why divide by √d_k? A dot product is a sum of d_k (here ${dk}) products, and spreads about √${dk} = ${Math.sqrt(dk).toFixed(0)} times as wide as one of them. Undivided, softmax would give nearly all weight to one token, and training would stop learning. Divided, the scores of this head have a standard deviation of ${deviation}.`,
  },
  "head.unscaledText": {
    zh: (dk: number, deviation: string) => `论文里点积要除以 √d_k（d_k 是每个键有几个数，这里是 ${dk}）；这个模型不除，训练时就学会了合适大小的查询和键。这个头的得分的标准差是 ${deviation}。`,
    en: (dk: number, deviation: string) => `The paper divides products by √d_k (the numbers of a key, here ${dk}). This model does not: it has learned queries and keys of a size that needs no divisor. The scores of this head have a standard deviation of ${deviation}.`,
  },
  "head.maskedText": {
    zh: "编码器不设掩码：每个词元可以看所有词元。（解码器里会有，见后。）",
    en: "The encoder masks nothing: each token may look at all. (The decoder will, see below.)",
  },
  "head.causalText": {
    zh: "后面的词元还没有写出来，不许看：得分换成 −∞（画斜线的格子）。",
    en: "Tokens ahead are not written yet and may not be seen: their scores become −∞ (hatched).",
  },
  "head.normed": {
    zh: "（在这个模型里，行先归一化，再乘矩阵，见第 8 节。）",
    en: "(In this model the row is normed first, see section 8.)",
  },
  "head.turned": {
    zh: "两者都已按位置转过（见第 3 节）。",
    en: "Both have been turned for their positions (see section 3).",
  },
  "head.window": {
    zh: (tokens: number) => `这一层每个词元最多看 ${tokens} 个词元，连自己在内；更前面的也用掩码挡住（滑动窗口）。`,
    en: (tokens: number) => `In this layer a token sees at most ${tokens} tokens, itself included; what lies further back is masked too (a sliding window).`,
  },
  "head.relative": {
    zh: "缩放之后再加一个数，它只看两个词元相隔多远、谁在前，每个头各有一套。这就是这个模型的位置信息。",
    en: "After the scale a number is added that depends on nothing but how far apart the two tokens are, and which comes first; each head has its own. This is how the model knows positions.",
  },
  "head.weightsText": {
    zh: "每一行过 softmax：都成正数，一行的和是 1（写在右边）。这就是**注意力权重**。",
    en: "Each row through softmax: all positive, and each row sums to 1 (shown at its right). These are the **attention weights**.",
  },
  "head.blendText": {
    zh: "用这些权重把各个词元的值 V 加起来：这个头替这一行带回来的东西。列是 V 的各维。",
    en: "With these weights the tokens' values V are added up: what this head brings back for the row. Columns are the numbers of V.",
  },
  "head.question": {
    zh: "先猜：选中的词元最看重谁？猜好了，再点到 softmax 那一步。",
    en: "Guess first: which token does the chosen one look at most? Then go on to softmax.",
  },
  "head.most": {
    zh: (query: string, key: string, weight: string) => `${query} 最看重 ${key}，权重 ${weight}。`,
    en: (query: string, key: string, weight: string) => `${query} looks most at ${key}, with ${weight}.`,
  },
  "head.asymmetric": {
    zh: (a: string, b: string, ab: string, ba: string) => `为什么查询和键要用两个不同的矩阵？${a} 作查询、${b} 作键，得分 ${ab}；${b} 作查询、${a} 作键，得分 ${ba}。查询是看的一方，键是被看的一方：甲看乙和乙看甲可以不同。若 W_Q 与 W_K 是同一个，两者就总是一样（得分表沿对角线对称），而且每个词元多半最看重自己。`,
    en: (a: string, b: string, ab: string, ba: string) => `Why two matrices for Q and K? With ${a} as query and ${b} as key the score is ${ab}, with ${b} as query and ${a} as key ${ba}. The query is who looks, the key who is looked at: A may look at B more than B at A. With one matrix both would always be equal (the table of scores symmetric), and tokens would tend to look most at themselves.`,
  },
  "head.divisor": {
    zh: "换一个除数，看选中的一行怎样变",
    en: "With another divisor, the chosen row would be",
  },
  "head.entropy": {
    zh: (divisor: string, largest: string, entropy: string) => `除以 ${divisor}：最大的权重 ${largest}，熵 ${entropy} 比特（权重有多分散；0 表示只看一个词元）`,
    en: (divisor: string, largest: string, entropy: string) => `divided by ${divisor}: largest weight ${largest}, entropy ${entropy} bits (how widely it spreads; 0 is one token alone)`,
  },

  "heads.title": { zh: "许多头", en: "Many heads" },
  "heads.lead": {
    zh: (half: string, layers: number, heads: number) => `${half}有 ${layers} 层，每层 ${heads} 个头，各有自己的 W_Q、W_K、W_V，各看各的。下面是所有头的权重，一格一个头；点一格，上一节就换成它。`,
    en: (half: string, layers: number, heads: number) => `The ${half} has ${layers} layers of ${heads} heads each. Every head has its own W_Q, W_K and W_V, and looks in its own way. Here are the weights of all of them; choose one, and the section above shows it.`,
  },
  "heads.shared": {
    zh: (layers: number, heads: number, shared: number) => `这 ${layers} 层里，每层有 ${heads} 个头，各有自己的 W_Q；W_K 和 W_V 只有 ${shared} 组，相邻的 ${heads / shared} 个头共用一组（分组查询注意力），这样缓存的键和值少得多。下面是所有头的权重，一格一个头；点一格，上一节就换成它。`,
    en: (layers: number, heads: number, shared: number) => `Each of these ${layers} layers has ${heads} heads with their own W_Q. Of W_K and W_V there are ${shared} only, and ${heads / shared} neighbouring heads share one of them (grouped-query attention), so that far fewer keys and values have to be kept. Here are the weights of all heads; choose one, and the section above shows it.`,
  },
  "heads.slices": {
    zh: "一个头是不是只看向量的一段？不是。每个头都读每个词元整行的每一个数；各占一段的是头的**结果**，不是输入。",
    en: "Does a head see a slice of the vector only? No: each head reads every number of every token's row; only its **result** is a slice of what comes out.",
  },
  "heads.off": {
    zh: "逐个关掉这一层的头，整个输出的 ln p（概率的对数）变化多少：降得越多，这个头越要紧",
    en: "Change of ln p (the logarithm of the output's probability) with one head of this layer off: the lower, the more it matters",
  },
  "heads.offText": {
    zh: "这不是看图猜的，是真的关掉一个头，把整个模型重算一遍得来的。“各有专长”只是个比喻：没有谁在给头分派工作。",
    en: "This is not read off a picture: each head was really switched off and the whole model computed again. That heads are “experts” is a figure of speech; nobody assigns them work.",
  },
  "heads.name": { zh: (layer: number, head: number) => `第 ${layer} 层第 ${head} 头`, en: (layer: number, head: number) => `layer ${layer}, head ${head}` },
  "heads.grid": { zh: "所有头的注意力权重", en: "Attention weights of all heads" },

  "concat.title": { zh: "拼接与输出投影", en: "Side by side, and through the output projection" },
  "concat.lead": {
    zh: (heads: number, width: number, d: number) => `${heads} 个头的结果，每个 ${width} 个数，**拼接**成一行 ${heads * width} 个数（不是相加）；再乘输出矩阵 W_O，得到 ${d} 个数。W_O 的每一个输出都读所有的头，各头得到的信息在这里合在一起。`,
    en: (heads: number, width: number, d: number) => `The results of ${heads} heads, ${width} numbers each, are put **side by side** into one row of ${heads * width} (not added); the matrix W_O turns it into ${d} numbers. Each of these reads all heads: here their findings are mixed.`,
  },
  "concat.heads": { zh: "各头的结果，一行一个头", en: "Results of the heads, one in each line" },
  "concat.output": { zh: "过输出投影之后", en: "After the output projection" },

  "addnorm.title": { zh: "残差与归一化", en: "Add & norm" },
  "addnorm.lead": {
    zh: "子层（注意力或前馈网络）的结果不是替换原来的行，而是**加**上去（残差连接）：原来知道的不丢，训练时，改进的方向（梯度）也有一条直通到底的路。",
    en: "The result of a sublayer (attention or feed-forward) does not replace the row but is **added** to it (the residual connection): nothing known is lost, and in training what should change (the gradient) has a straight way down.",
  },
  "addnorm.layerNorm": {
    zh: "归一化先把每一行调到均值 0、方差 1，再乘训练出来的 γ，加 β。",
    en: "The norm brings each row to mean 0 and variance 1, then multiplies it by γ and adds β, which were learned.",
  },
  "addnorm.rmsNorm": {
    zh: "这里的归一化（RMS）只把每一行除以它的均方根，再乘训练出来的 γ：不减均值，也没有 β。",
    en: "The norm here (RMS) only divides each row by the root of its mean square, then multiplies it by γ, which was learned: no mean is taken off, and there is no β.",
  },
  "addnorm.sizes": {
    zh: (r0: string, r1: string) => `归一化之前，均方根是 ${r0}；调到 1，再乘 γ 之后，是 ${r1}。`,
    en: (r0: string, r1: string) => `Before the norm the root of the mean square is ${r0}; made 1, then times γ, it is ${r1}.`,
  },
  "addnorm.pre": {
    zh: "这个模型是 pre-norm：先归一化，再进子层；相加的结果不归一化。原论文（Attention Is All You Need，2017）用的是 post-norm：先相加，后归一化。",
    en: "This model is pre-norm: the norm comes before the sublayer, and the sum stays as it is. The paper (Attention Is All You Need, 2017) is post-norm: the norm of the sum.",
  },
  "addnorm.post": {
    zh: "这个模型同原论文（Attention Is All You Need，2017）一样是 post-norm：先相加，再归一化。",
    en: "As in the paper (Attention Is All You Need, 2017), this model is post-norm: first the sum, then its norm.",
  },
  "addnorm.before": { zh: "x：原来的行", en: "x: the row as it was" },
  "addnorm.output": {
    zh: "子层的结果：加上去的",
    en: "What the sublayer adds",
  },
  "addnorm.sum": {
    zh: "相加之后",
    en: "The sum",
  },
  "place.embedding": { zh: "词嵌入", en: "embedding" },
  "place.layer": {
    zh: (half: string, layer: number, box: string) => `${half}第 ${layer} 层${box}`,
    en: (half: string, layer: number, box: string) => `${half}, layer ${layer}, ${box}`,
  },
  "place.head": {
    zh: (attention: string, head: number) => `${attention}第 ${head} 头`,
    en: (attention: string, head: number) => `${attention}, head ${head}`,
  },
  "addnorm.norm": { zh: "归一化之后", en: "after the norm" },
  "addnorm.facts": {
    zh: (x: string, y: string, cosine: string, little: boolean) => `这一行原来长 ${x}，加上去的一行长 ${y}；相加前后方向的余弦是 ${cosine}：${little ? "行是一点一点改的" : "这里改动很大，别的层里往往小得多"}。`,
    en: (x: string, y: string, cosine: string, little: boolean) => `The row had length ${x}, what is added has ${y}; the cosine of the directions before and after is ${cosine}: ${little ? "rows change little by little" : "here it changes much, in other layers often less"}.`,
  },
  "addnorm.moments": {
    zh: (m0: string, v0: string, m1: string, v1: string) => `归一化之前，均值 ${m0}，方差 ${v0}；调到 0 和 1，再乘 γ 加 β 之后，均值 ${m1}，方差 ${v1}。`,
    en: (m0: string, v0: string, m1: string, v1: string) => `Before the norm the mean is ${m0} and the variance ${v0}; made 0 and 1, then times γ and plus β, they are ${m1} and ${v1}.`,
  },

  "feedforward.title": { zh: "前馈网络", en: "Feed-forward" },
  "feedforward.lead": {
    zh: (d: number, inner: number, activation: string) => `注意力在词元之间搬运信息；前馈网络只加工**这一行自己**：${d} 个数展宽成 ${inner} 个，经过激活函数（${activation}），再压回 ${d} 个。每一行用同一组权重，互不影响。`,
    en: (d: number, inner: number, activation: string) => `Attention carries things between tokens; the feed-forward network works on **each row by itself**: ${d} numbers become ${inner}, go through the activation (${activation}), and become ${d} again. All rows use the same weights and do not see each other.`,
  },
  "feedforward.gated": {
    zh: (inner: number) => `这里的展宽带**门**：两个矩阵各算出 ${inner} 个数，一个过激活函数，再与另一个逐项相乘，像一道门，决定每个单元放过多少。`,
    en: (inner: number) => `Here it is **gated**: two matrices make ${inner} numbers each; one of the two goes through the activation and multiplies the other, number by number, like a gate that says how much of each unit passes.`,
  },
  "feedforward.active": {
    zh: (active: number, inner: number, token: string) => `${token}：${inner} 个单元里有 ${active} 个大于 0。`,
    en: (active: number, inner: number, token: string) => `${token}: ${active} of ${inner} units are above 0.`,
  },
  "feedforward.why": {
    zh: "为什么要先展宽？没有激活函数，两个矩阵连乘只等于一个矩阵，展宽就白费了。有了激活函数，中间的每个数（单元）像一个“如果……就……”的小规则；越宽，容得下的规则越多。",
    en: "Why wider first? Without the activation, two matrices one after the other could be replaced by one, and nothing is gained. With it each number in the middle (a unit) is a small rule, “if this, then that”, and width is room for rules.",
  },
  "feedforward.whyGated": {
    zh: "为什么要先展宽？中间的每个数（单元）像一个“如果……就……”的小规则，门说的是“如果”；越宽，容得下的规则越多。",
    en: "Why wider first? Each number in the middle (a unit) is a small rule, “if this, then that”, whose “if” is the gate; width is room for rules.",
  },
  "feedforward.units": { zh: "这一行最强的单元", en: "The strongest units of this row" },
  "feedforward.unit": { zh: (unit: number) => `单元 ${unit}`, en: (unit: number) => `unit ${unit}` },
  "feedforward.output": {
    zh: (d: number) => `压回 ${d} 个数之后`,
    en: (d: number) => `Back at ${d} numbers`,
  },
  "feedforward.inner": { zh: "内层：全部单元", en: "Inner row: all units" },

  "layers.title": { zh: "一层又一层", en: "Layer after layer" },
  "layers.lead": {
    zh: "注意力、前馈网络，这两步重复许多层。下面是一个词元的行，从词嵌入到最上面一层：",
    en: "Attention and feed-forward, again and again. Here is the row of one token, from the embedding to the top:",
  },
  "layers.change": { zh: "与上一层的余弦", en: "cosine to the layer below" },
  "layers.embedded": { zh: "词嵌入 + 位置", en: "embedding + position" },
  "layers.layer": { zh: (n: number) => `第 ${n} 层之后`, en: (n: number) => `after layer ${n}` },

  "decoder.title": { zh: "解码器：右移与三角形", en: "The decoder: shifted right, and a triangle" },
  "decoder.lead": {
    zh: "编码器读完原文，译文由解码器一个一个写。它的输入是**前面的**词元：在最前面放一个开始符，整体右移一位。第 t 行要预测的，就是译文的第 t 个词元；它要到下一行才作为输入出现。",
    en: "The encoder has read the source; the decoder writes the output, one token after the other. Its input is what stands **before**: a start token first, all else shifted right by one. Row t must predict token t of the output; this token itself goes in only at the next row.",
  },
  "decoder.leadAlone": {
    zh: "模型读一段文字，在每个词元上都预测下一个。第 t 行看到的是到第 t 个为止的词元，要预测的是第 t + 1 个：同一段文字，错开一位。最后一行预测出的词元接到文字后面，再预测下一个，如此反复。",
    en: "The model reads a text and foresees, at each token, the one that follows. Row t is given the tokens up to number t and must predict number t + 1: the same text, shifted by one. What it predicts at the last row is put behind the text, then comes the next, and so on.",
  },
  "decoder.maskAlone": {
    zh: "训练时整段文字一次送进去，所有行一次算完；每行后面的词元用掩码挡住：softmax 之前，得分换成 −∞，之后权重恰好是 0。生成时，给定的文字也一次算完，之后逐个算；前面各行的键和值都存着（KV 缓存），不必重算：第 t 行只看自己和前面的行，后面再写多少，它都不变。表右边是每行之和。",
    en: "In training the whole text goes in, and all rows are computed at once; a mask hides from each row what lies ahead: before softmax the score becomes −∞, and the weight exactly 0. In generating, the given text is computed at once too, and then one token at a time. Keys and values of earlier rows are kept (the KV cache) and never computed again: row t sees only itself and what is before it, and never changes. At the right of the table is the sum of each row.",
  },
  "decoder.forcingAlone": {
    zh: "训练时，就算模型猜错了，下一行看到的仍是真正的文字（教师强制，teacher forcing）；生成时，看到的是它自己写的。",
    en: "In training the next row sees the real text even where the model guessed wrong (teacher forcing); in generating it sees what it wrote itself.",
  },
  "decoder.input": { zh: "输入的行", en: "row that goes in" },
  "decoder.label": {
    zh: "要预测的",
    en: "what follows",
  },
  "decoder.mask": {
    zh: "训练时，正确的译文是现成的：右移一位，整句送进去，所有行一次算完；每行后面的词元用掩码挡住：softmax 之前，得分换成 −∞，之后权重恰好是 0。翻译时后面的词元还不存在，只能逐个算。输入相同，一次算完和逐个算给出同样的数：第 t 行只看自己和前面的行，后面再写多少，它都不变。表右边是每行之和。",
    en: "In training the right output is known. It goes in whole, shifted by one, and all rows are computed at once; a mask hides from each row what lies ahead: before softmax the score becomes −∞, and the weight exactly 0. In translating, what lies ahead does not exist yet, and rows are computed one by one. For the same input both give the same numbers: row t sees only itself and what is before it, and never changes again. At the right of the table is the sum of each row.",
  },
  "decoder.zero": {
    zh: (row: string, kept: string) => `为什么是 −∞？得分换成 0 不行：softmax 仍会分给它权重。等 softmax 之后再把后面的权重清零也不行：${row} 这一行的和只剩 ${kept}，不再是 1。`,
    en: (row: string, kept: string) => `Why −∞? To a score of 0 softmax would still give weight. And if the weights ahead were set to 0 after softmax, the row of ${row} would sum to ${kept} instead of 1.`,
  },
  "decoder.forcing": {
    zh: "训练时，就算模型猜错了，下一行看到的仍是正确的译文（教师强制，teacher forcing）；翻译时，看到的是它自己写的。",
    en: "In training the next row sees the right output even where the model guessed wrong (teacher forcing); in translating it sees what it wrote itself.",
  },

  "cross.title": { zh: "交叉注意力与对齐", en: "Cross-attention and alignment" },
  "cross.lead": {
    zh: "公式不变，只是来源有两个：查询 Q 来自解码器的行，键 K 和值 V 来自**编码器的输出**。每写一个词元，都从原文里取需要的东西。",
    en: "The formula is the same, but it has two sources: the query Q comes from a row of the decoder, keys K and values V from **the encoder's output**. For each token that it writes, the decoder fetches what it needs from the source.",
  },
  "cross.measure": { zh: "画什么", en: "What is drawn" },
  "cross.weights": { zh: "权重 α", en: "weights α" },
  "cross.flow": {
    zh: "‖α·v·W_O‖：真正传过来的量",
    en: "‖α·v·W_O‖: what really flows",
  },
  "cross.flowText": {
    zh: "权重大，不等于带来的东西多：许多头把用不着的权重放在 `</s>` 或标点上，而那里的值向量很短。改看传过来的向量有多长（权重 × 值 × 输出矩阵），`</s>` 那一列常常就淡了。",
    en: "A large weight need not bring much: many heads put weight that they have no use for on `</s>` or punctuation, whose value vectors are short. By the length of the vector that arrives (weight × value × output matrix), that column often fades.",
  },
  "cross.all": { zh: "所有头的平均", en: "mean of all heads" },
  "cross.lines": { zh: "原文在左，译文在右", en: "source at the left, output at the right" },
  "cross.aligned": {
    zh: (layer: number, heads: number[], input: boolean, norm: boolean) =>
      `这些线是根据解码器第 ${layer} 层${heads.length ? `的头 ${heads.join("、")}` : "所有头的平均"}画的，看的是${input ? "把一个译文词元当作输入的那一步（写出它的下一步：那时模型才知道它是什么）" : "写出一个译文词元的那一步"}：${norm ? "哪个原文词元传过来的向量最长，就连到哪个" : "哪个原文词元的权重最大，就连到哪个"}；语言标记和 \`</s>\` 不是词，不参加。各层各头差别很大：哪一种读法最接近人工对齐，要量过才知道（对齐错误率，见 docs/explain.md）。`,
    en: (layer: number, heads: number[], input: boolean, norm: boolean) =>
      `These lines are read in layer ${layer} of the decoder, ${heads.length ? `head ${heads.join(", ")}` : "the mean of all heads"}, at ${input ? "the step that has the token as its input (the one after it was produced: only then does the model know what it is)" : "the step that produces the token"}, by ${norm ? "the length of what arrives" : "weight"}; tags of languages and \`</s>\` are no words and are left out. Layers and heads differ much: which reading comes closest to links made by hand has to be measured (alignment error rate, see docs/explain.md).`,
  },
  "cross.hide": {
    zh: "逐个遮住原文词元，这个译文词元的 ln p 变多少",
    en: "Change of ln p of this output token where one source token is hidden",
  },
  "cross.hideText": {
    zh: "注意力图只说“看了哪里”。要知道“靠的是哪里”，得真的遮住它：让编码器和解码器的每一层都看不到这个词元，再算一遍。这里就是这样算的。",
    en: "A picture of attention shows where the model looked. What it relied on is another question: for this chart the token was really hidden in all layers of encoder and decoder, and all was computed again.",
  },

  "output.title": { zh: "线性层与 softmax", en: "Linear and softmax" },
  "output.lead": {
    zh: (d: number, vocabulary: string) => `最后一层给出的行有 ${d} 个数。线性层拿它与词表里每个词元的向量做点积，得到 ${vocabulary} 个数（logit）；softmax 再把它们变成 ${vocabulary} 个概率，词表里每个词元一个。在这一步之前只有向量，没有概率。最后取哪个，不一定是概率最大的，见下一节。`,
    en: (d: number, vocabulary: string) => `The last layer's row has ${d} numbers. The linear layer takes its dot product with the vector of each token of the vocabulary: ${vocabulary} numbers (logits). Softmax makes ${vocabulary} probabilities of them, one for each token of the vocabulary. Before this step there are only vectors. Which token is taken, the next section shows: not always the likeliest.`,
  },
  "output.norm": {
    zh: "在这个模型里，最后一层的行先再归一化一次。",
    en: "In this model the last layer's row is normed once more before that.",
  },
  "output.tied": {
    zh: "这个模型的线性层所用的矩阵，就是词嵌入的那张表（共享）。",
    en: "In this model the linear layer's matrix is the embedding's table again (they are tied).",
  },
  "output.top": {
    zh: (step: number) => `第 ${step} 步最可能的 20 个`,
    en: (step: number) => `The 20 likeliest at step ${step}`,
  },
  "output.after": {
    zh: (token: string) => `${token} 之后最可能的 20 个`,
    en: (token: string) => `The 20 likeliest after ${token}`,
  },
  "output.others": { zh: "其余所有词元", en: "all other tokens" },
  "output.sum": {
    zh: (token: string, logit: string, lse: string, difference: string, p: string) => `${token} 的 logit 是 ${logit}，ln Σ exp（softmax 的除数的对数）是 ${lse}；相减得 ${difference}，e 的这个次方约 ${p}。`,
    en: (token: string, logit: string, lse: string, difference: string, p: string) => `${token}: its logit is ${logit}, and the logarithm of what softmax divides by (ln Σ exp) ${lse}; e to the power of their difference, ${difference}, is ${p}.`,
  },
  "lens.title": {
    zh: "每个子层之后，模型会写出什么",
    en: "What the model would say after each sublayer",
  },
  "lens.lead": {
    zh: "把中途的行直接送进最后的归一化和输出层，看它会选哪个词元（logit lens）。这个词是到哪一层才出现的？最后一行就是真正的输出。中途的行只是半成品，不等于模型“此刻的想法”；输出层与词嵌入共用一张表时，一开始选中的往往就是输入的词元。",
    en: "Here unfinished rows go straight into the last norm and the output layer (“logit lens”). At which layer does the word appear? The last line is the real output. What stands before it need not be what the model “thinks”; where the output layer shares the embedding's table, the first of them often say the token that went in.",
  },
  "lens.after": { zh: "在……之后", en: "after" },

  "beams.title": { zh: "束搜索的树", en: "The tree of beam search" },
  "beams.lead": {
    zh: (width: number) => `如果每步只选概率最大的（这叫贪心），有时会走进死胡同。束搜索同时留 ${width} 个候选句，每步把它们都延长，再留下概率之积最大的 ${width} 个，最后比较整句：最终译文不一定每步都取概率最大的词元。落选的也画了出来。`,
    en: (width: number) => `Taking the likeliest at each step (greedy) may lead into a dead end. Beam search keeps ${width} candidates at a time, makes all of them longer, keeps the ${width} whose product of probabilities is greatest, and in the end compares whole outputs: the final one need not take the likeliest token at each step. Those that lost are drawn too.`,
  },
  "beams.greedy": {
    zh: "这一次是贪心解码：每步取最可能的一个。用 --beam-size 4 再生成一页，可以看到束搜索。",
    en: "This was greedy decoding: the likeliest at each step. Make a page with --beam-size 4 to see beam search.",
  },
  "beams.sampled": {
    zh: "这一次是抽样：每个词元按概率随机抽取，所以不一定是最可能的那个；同一个种子抽出的总相同。",
    en: "This was sampling: each token was drawn by chance, by its probability, and need not be the likeliest. The same seed draws the same again.",
  },
  "beams.finished": { zh: "写完的候选句", en: "Finished candidates" },
  "beams.score": {
    zh: (penalty: string) => `分数 = ln p ÷ 长度^${penalty}`,
    en: (penalty: string) => `score = ln p ÷ length^${penalty}`,
  },
  "beams.penalty": {
    zh: "为什么要除以长度？概率越乘越小；不除以长度，短句往往占便宜。（ln p 是概率的对数，连乘就变成了相加。）",
    en: "Why divide by the length? Probabilities shrink as they are multiplied, so short outputs would often win. (ln p is the logarithm of a probability: products become sums.)",
  },
  "beams.first": {
    zh: (n: number) => `${n} 步里，最后选中的词元不是当时概率最大的。`,
    en: (n: number) => `At ${n} steps the token in the final output was not the likeliest at that point.`,
  },
  "beams.always": {
    zh: "这一次，最后选中的词元在每一步都是概率最大的。",
    en: "This time the final output has the likeliest token at each step.",
  },
  "beams.kept": { zh: "留下的", en: "kept" },
  "beams.lost": { zh: "落选的", en: "lost" },
  "beams.chosen": { zh: "最终输出", en: "final output" },

  "whatif.title": { zh: "如果……会怎样", en: "What if …" },
  "whatif.lead": {
    zh: "看懂一个东西，最好的办法是动手改一改。下面的结果都是真的改了模型再算出来的。",
    en: "The best way to understand a thing is to change it. These results come from really changing the model and computing again.",
  },
  "whatif.contrast": {
    zh: (instead: string, chosen: string) => `为什么是 ${chosen} 而不是 ${instead}？遮住每个原文词元，看 ln p(${instead}) − ln p(${chosen}) 怎样变：`,
    en: (instead: string, chosen: string) => `Why ${chosen} and not ${instead}? Hide each source token and see how ln p(${instead}) − ln p(${chosen}) changes:`,
  },
  "whatif.contrastAlone": {
    zh: (instead: string, chosen: string) => `为什么是 ${chosen} 而不是 ${instead}？遮住前面的每个词元，看 ln p(${instead}) − ln p(${chosen}) 怎样变：`,
    en: (instead: string, chosen: string) => `Why ${chosen} and not ${instead}? Hide each token before it and see how ln p(${instead}) − ln p(${chosen}) changes:`,
  },
  "whatif.hide": {
    zh: (token: string) => `逐个遮住前面的词元，${token} 的 ln p 变多少`,
    en: (token: string) => `Change of ln p of ${token} where one token before it is hidden`,
  },
  "whatif.hideText": {
    zh: "注意力图只说“看了哪里”。要知道“靠的是哪里”，得真的遮住：让每一层里别的词元都看不到它，再算一遍。这里就是这样算的。",
    en: "A picture of attention shows where the model looked. What it relied on is another question: for this chart the token was really hidden from all others in all layers, and all was computed again.",
  },
  "whatif.leastAlone": {
    zh: (n: number, all: number) => `全模型共 ${all} 个头，其中 ${n} 个单独关掉之后，输出的 ln p 不降反升，或者降得不到 0.05。`,
    en: (n: number, all: number) => `The whole model has ${all} heads. ${n} of them, switched off one at a time, lower ln p of the output by less than 0.05, or raise it.`,
  },
  "whatif.live": {
    zh: "想自己动手，请运行 `hexapla explain --serve`：在那里可以换一句话，关掉任何一个头、位置编码、掩码或残差，遮住词元，换一个词元接着写，或者把一个词元的行换成另一句话里的，译文随即重算。",
    en: "To go on by yourself run `hexapla explain --serve`: there you give it another sentence, switch off any head, positions, mask or residual, hide tokens, let it go on after another token, or put rows of another sentence in, and the translation is made anew.",
  },
  "whatif.most": {
    zh: (head: string, change: string) => `对这个输出最要紧的头是${head}：关掉它，整个输出的 ln p（概率的对数）变化 ${change}。`,
    en: (head: string, change: string) => `The head that matters most to this output is ${head}: with it off, ln p of the whole changes by ${change}.`,
  },
  "whatif.least": {
    zh: (n: number, all: number) => `全模型（编码器和解码器的自注意力，加上交叉注意力）共 ${all} 个头，其中 ${n} 个单独关掉之后，译文的 ln p 不降反升，或者降得不到 0.05。`,
    en: (n: number, all: number) => `The whole model (self-attention of encoder and decoder, and cross-attention) has ${all} heads. ${n} of them, switched off one at a time, lower ln p of the output by less than 0.05, or raise it.`,
  },

  "live.form": { zh: "换一句话", en: "Another text" },
  "live.text": { zh: "原文", en: "Text" },
  "live.to": { zh: "译成", en: "into" },
  "live.any": { zh: "默认", en: "default" },
  "live.go": { zh: "重新翻译", en: "Translate" },
  "live.busy": { zh: "正在计算……", en: "Computing …" },
  "live.before": { zh: "没有改动时的译文：", en: "Without the changes:" },
  "live.changes": { zh: "改动", en: "Changes" },
  "live.undo": { zh: "全部撤销", en: "Undo all" },
  "live.undoOne": { zh: (name: string) => `撤销：${name}`, en: (name: string) => `Undo: ${name}` },
  "live.try": { zh: "自己动手", en: "Try it" },
  "live.switches": { zh: "拿掉模型的一部分", en: "Take a part of the model away" },
  "live.positions": { zh: "不加位置编码", en: "no positions" },
  "live.mask": { zh: "解码器不用掩码", en: "no mask in the decoder" },
  "live.residual": { zh: "没有残差连接", en: "no residual connections" },
  "live.keys": { zh: "自注意力里 K := Q", en: "K := Q in self-attention" },
  "live.headsOff": { zh: "关掉正在看的头", en: "Switch off a head that you look at" },
  "live.isOff": { zh: (head: string) => `关掉${head}`, en: (head: string) => `off: ${head}` },
  "live.hide": { zh: "遮住原文词元（编码器、解码器都看不到）", en: "Hide source tokens (from encoder and decoder)" },
  "live.isHidden": { zh: (token: string) => `遮住 ${token}`, en: (token: string) => `hidden: ${token}` },
  "live.force": { zh: (step: number) => `第 ${step} 步改写成`, en: (step: number) => `At step ${step} write instead` },
  "live.isForced": { zh: (tokens: string) => `译文以 ${tokens} 开头`, en: (tokens: string) => `begins with ${tokens}` },
  "live.patch": {
    zh: (layer: number, token: string) => `编码器第 ${layer} 层之后，${token} 这一行换成下面这句话里同一位置的行`,
    en: (layer: number, token: string) => `After layer ${layer} of the encoder, take the row of ${token} from this sentence (same position)`,
  },
  "live.isPatched": {
    zh: (value: string, text: string) => `${value}：一行来自“${text}”`,
    en: (value: string, text: string) => `${value}: a row of “${text}”`,
  },

  "data.title": { zh: "数据与代码", en: "The data, and the code" },
  "data.lead": {
    zh: "这一页的每个数组都有名字，名字与代码和论文里的一致（docs/explain.md 有完整的对照表）。数组名里，层、头、行都从 0 数起；页面文字里，层和头从 1 数起。",
    en: "Each array of this page has a name, as in the code and in the paper (docs/explain.md has the table). In names, layers, heads and rows count from 0; in the page's text, layers and heads from 1.",
  },
  "data.python": { zh: "在 Python 里用全部数组（f32）：", en: "All arrays (f32) in Python:" },
  "data.names": { zh: (n: number) => `这个文件里的 ${n} 个数组`, en: (n: number) => `The ${n} arrays of this file` },
  "data.made": { zh: (by: string) => `由 ${by} 生成`, en: (by: string) => `Made by ${by}` },
} satisfies Record<string, Entry>;
